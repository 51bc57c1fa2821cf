"""Loads images in the form in which a model takes them: squares, or photographs to be cut.

See `sia_gen.images.opening` for which files are read, and how.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.data import Box, NonSquare, Tile
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, one_line
from sia_gen.images.opening import read_image, upright_size
from sia_gen.images.squares import Area, area_of, looked_at, to_square

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSpec:
    """The form in which a model takes images."""

    mode: Literal["L", "RGB"]
    size: int  # height and width in pixels
    non_square: NonSquare | None = None  # how images become square; None: others are an error
    white: int | None = None  # value of white in images of 16 bits; None: 65535
    tile: Tile | None = None  # tiles that photographs are cut into; None: models take them whole
    roi: Box | None = None  # left, top, right and bottom of what counts; None: everything
    ignore: str | None = None  # path of a mask of what never counts; see `Data.ignore`

    @classmethod
    def of(cls, recipe: Recipe, size: int) -> Self:
        """Returns the form that a recipe asks for, in the size of one of its models."""
        data = recipe.data
        return cls(recipe.mode, size, data.non_square, data.white, data.tile, data.roi, data.ignore)


def load_image(path: Path, spec: ImageSpec) -> Pixels:
    """Reads an image file as (C, size, size), 0 to 255, C = 1 or 3.

    `spec.tile` does not matter here. Raises `ImageError` if it cannot be decoded, or is not square
    and `spec` has no rule for that.
    """
    return load_with_area(path, spec)[0]


def load_with_area(path: Path, spec: ImageSpec) -> tuple[Pixels, Area]:
    """Reads an image file like `load_image`; returns also where the picture is in it."""
    return as_model_takes(read_image(path, spec.white), spec, str(path))


def as_model_takes(image: Image.Image, spec: ImageSpec, name: str) -> tuple[Pixels, Area]:
    """Converts an upright image of mode L or RGB to (C, size, size), 0 to 255.

    Returns also where the picture is in it. Raises `ImageError`, which calls it by its name, if it
    is not square and `spec` has no rule for that.
    """
    image = of_interest(image, spec, name)
    square = to_square(image, name, spec.size, spec.non_square)
    # Copied because Pillow's own pixels are read-only, about which torch warns.
    return np.array(to_pixels(square), order="C"), area_of(image.size, spec.size, spec.non_square)


def load_photograph(path: Path, spec: ImageSpec) -> Pixels:
    """Reads a photograph to be cut into tiles, (C, H, W), 0 to 255, at the scale of `spec.tile`.

    Raises `ImageError` if it cannot be decoded, or is smaller than a tile.
    """
    return as_tiles_are_cut(read_image(path, spec.white, large=True), spec, str(path))


def as_tiles_are_cut(image: Image.Image, spec: ImageSpec, name: str) -> Pixels:
    """Converts an upright image of mode L or RGB to what `load_photograph` returns."""
    image = of_interest(image, spec, name)
    size = scaled_size(name, image.size, spec)
    if size != image.size:
        # In this order, as strips are, because Pillow's own depends on the shape.
        narrow = image.resize((size[0], image.height), Image.Resampling.BICUBIC)
        image = narrow.resize(size, Image.Resampling.BICUBIC)
    return np.array(to_pixels(image), order="C")


def scaled_size(name: str | Path, size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """Returns width and height of what counts at the scale of the tiles.

    Raises:
        ImageError: If a tile is larger.
    """
    if spec.tile is None:
        return size
    width, height = (max(1, round(side * (spec.tile.scale or 1))) for side in size)
    if min(width, height) < spec.tile.size:
        region = "" if spec.roi is None else "the region of interest of "
        scaled = "" if (width, height) == size else f", {width} x {height} at the scale"
        raise ImageError(
            problem=f"{region}{name} is {size[0]} x {size[1]} pixels{scaled}, less than a tile of "
            f"{spec.tile.size}.",
            fix="Choose smaller tiles with --tile, or another --scale, or leave it out.",
        )
    return width, height


def of_interest(image: Image.Image, spec: ImageSpec, name: str) -> Image.Image:
    """Returns the region of interest of an image in the mode of a model."""
    if spec.roi is not None:
        size_within(name, image.size, spec)
        image = image.crop(spec.roi)
    return image if image.mode == spec.mode else image.convert(spec.mode)


def size_within(name: str | Path, size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """Returns width and height of the region of interest; `ImageError` if it is not in an image."""
    if spec.roi is None:
        return size
    left, top, right, bottom = spec.roi
    if right > size[0] or bottom > size[1]:
        raise ImageError(
            problem=f"{name} is {size[0]} x {size[1]} pixels, but the region of interest ends at "
            f"{right}, {bottom}.",
            fix="Correct 'data.roi' in the recipe, which is left, top, right and bottom.",
        )
    return right - left, bottom - top


def area_looked_at(picture: tuple[int, int], spec: ImageSpec) -> Area:
    """Returns the rows and columns of a photograph, of some width and height, that a model sees."""
    left, top, right, bottom = spec.roi or (0, 0, *picture)
    rule = spec.non_square if spec.tile is None else None
    inner = looked_at((right - left, bottom - top), rule)
    return Area(top + inner.top, top + inner.bottom, left + inner.left, left + inner.right)


def load_area(path: Path, spec: ImageSpec) -> Area:
    """Returns where the picture of a file is in the image that `load_image` makes of it."""
    if spec.non_square != "pad":
        return Area.whole(spec.size)
    return area_of(size_within(path, upright_size(path), spec), spec.size, spec.non_square)


def pixel_aspect_ratio(path: Path, spec: ImageSpec) -> float:
    """Returns width by height of what a pixel shows in the image that `load_image` makes."""
    if spec.non_square != "stretch":
        return 1.0
    width, height = size_within(path, upright_size(path), spec)
    return width / height


def load_images(
    paths: Sequence[Path],
    spec: ImageSpec,
    load: Callable[[Path, ImageSpec], Pixels] = load_image,
) -> Pixels:
    """Reads images into memory, (N, C, size, size), 0 to 255; see `load_image`."""
    images = np.empty((len(paths), len(spec.mode), spec.size, spec.size), np.uint8)
    for place, path in enumerate(paths):
        images[place] = load(path, spec)
    return images


def find_unreadable(
    paths: Sequence[Path], category: str, white: int | None = None, *, large: bool = False
) -> frozenset[Path]:
    """Returns the images that cannot be read, and reports their number in a line on stderr."""
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            read_image(path, white, large=large)
        except ImageError as error:
            problems[path] = error.problem
    if problems and os.environ.get("RANK", "0") == "0":
        first = next(iter(problems.values()))
        text = f"{category}: left out {len(problems)} of {len(paths)} images; the first: {first}"
        print(one_line(text), file=sys.stderr, flush=True)
    return frozenset(problems)


def to_picture(pixels: Pixels) -> Image.Image:
    """Converts an image (C, H, W), 0 to 255, into a picture of mode L or RGB."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def to_pixels(image: Image.Image) -> Pixels:
    """Converts a picture of mode L or RGB into an image (C, H, W), 0 to 255."""
    return np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1)
