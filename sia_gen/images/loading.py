"""Loads images as square arrays of one mode and size.

Files are judged by their content, not by their names:

| file | result |
|---|---|
| one of `FORMATS` | read; no other format is, least of all those that run programs |
| empty, truncated, or a pipe or folder instead of a file | an error |
| more than 89 million pixels, or very long text in it | an error, before any memory is allocated |
| 1 x 1 pixel | read and enlarged |
| rotated by EXIF | upright |
| several frames or pages | the first one |
| 12 or 16 bits, grey | scaled to 8 bits, from black at 0 to white at the recipe's `data.white` |
| 16 bits, colour | scaled over the whole range; another white is an error |
| 32 bits, floating point, signed | an error, because the value of white is unknown |
| palette, CMYK, YCbCr, Lab | converted to RGB |
| transparent | composited on black |
| colour profile, gamma | ignored |
| misread by Pillow (see `sia_gen.images.misread`) | an error |
| damaged, but still decodable | read, because the damage cannot be detected |

Every error is one line. If the recipe's `data.unreadable` is `skip`, such files are left out and
counted instead.
"""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from sia_gen.config.data import NonSquare
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, one_line
from sia_gen.images.files import FORMATS
from sia_gen.images.misread import deep_of, reason_of, require_readable
from sia_gen.images.squares import Area, area_of, to_square

FIXES = {
    "image": "Replace or remove the file, or set 'data.unreadable' in the recipe to 'skip'.",
    "mask": "Replace the file.",
}
# White in images of 16 bits whose whole range is used.
WIDEST = 65535

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSpec:
    """The form in which a model takes images."""

    mode: Literal["L", "RGB"]
    size: int  # height and width in pixels
    non_square: NonSquare | None = None  # how images become square; None: others are an error
    white: int | None = None  # value of white in images of 16 bits; None: 65535

    @classmethod
    def of(cls, recipe: Recipe, size: int) -> Self:
        """Returns the form that a recipe asks for, in the size of one of its models."""
        return cls(recipe.mode, size, recipe.data.non_square, recipe.data.white)


def load_image(path: Path, spec: ImageSpec) -> Pixels:
    """Reads an image file as (C, size, size), 0 to 255, C = 1 or 3.

    Raises `ImageError` if it cannot be decoded, or is not square and `spec` has no rule for that.
    """
    return load_with_area(path, spec)[0]


def load_with_area(path: Path, spec: ImageSpec) -> tuple[Pixels, Area]:
    """Reads an image file like `load_image`; returns also where the picture is in it."""
    image = read_image(path, spec.white)
    if image.mode != spec.mode:
        image = image.convert(spec.mode)
    square = to_square(image, path, spec.size, spec.non_square)
    # Copied because Pillow's own pixels are read-only, about which torch warns.
    return np.array(to_pixels(square), order="C"), area_of(image.size, spec.size, spec.non_square)


def load_area(path: Path, spec: ImageSpec) -> Area:
    """Returns where the picture of a file is in the image that `load_image` makes of it."""
    if spec.non_square != "pad":
        return Area.whole(spec.size)
    return area_of(upright_size(path), spec.size, spec.non_square)


def load_images(paths: Sequence[Path], spec: ImageSpec) -> Pixels:
    """Reads images into memory, (N, C, size, size), 0 to 255; see `load_image`."""
    images = np.empty((len(paths), len(spec.mode), spec.size, spec.size), np.uint8)
    for place, path in enumerate(paths):
        images[place] = load_image(path, spec)
    return images


def read_image(path: Path, white: int | None = None) -> Image.Image:
    """Reads an image file upright, in mode L or RGB; `ImageError` if it cannot be decoded.

    `white` is the value of white in images of 16 bits, by default 65535.
    """
    with open_image(path, "image") as file:
        if white not in (None, WIDEST) and has_deep_colours(file):
            msg = (
                f"its colours have 16 bits, which are read over the whole range, so {white} cannot "
                "be white; save it with 8 bits, or set 'data.white' to 65535"
            )
            raise ValueError(msg)
        return to_eight_bits(upright(file), white)


def upright_size(path: Path) -> tuple[int, int]:
    """Returns width and height as `read_image` gives them, from the header if that is enough."""
    with open_image(path, "image") as file:
        return file.size if file.width == file.height else upright(file).size


def find_unreadable(
    paths: Sequence[Path], category: str, white: int | None = None
) -> frozenset[Path]:
    """Returns the images that cannot be read, and reports their number in a line on stderr."""
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            read_image(path, white)
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


@contextmanager
def open_image(path: Path, what: Literal["image", "mask"]) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file without reading pixels; whatever goes wrong becomes an `ImageError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe would wait for somebody to write to it.
            msg = "it is not a file"
            raise ValueError(msg)
        # Given the path, Pillow maps plain TIFF files into memory and mixes up turned ones.
        with path.open("rb") as stream, Image.open(stream, formats=list(FORMATS)) as file:
            require_readable(file)
            yield file
    # A damaged file makes Pillow raise almost anything.
    except Exception as error:
        raise ImageError(
            problem=f"cannot read the {what} {path}: {reason_of(error, path)}.", fix=FIXES[what]
        ) from error


def upright(file: Image.Image) -> Image.Image:
    """Reads the first frame of an open file, rotated as its EXIF data say."""
    ImageOps.exif_transpose(file, in_place=True)
    if file.mode == "P" and file.palette is not None:
        colours = len(file.palette.palette) // len(file.palette.mode)
        if np.asarray(file).max() >= colours:
            msg = f"it has pixels beyond the {colours} colours of its palette"
            raise ValueError(msg)
    if file.format == "BMP" and file.mode == "RGBA" and not np.asarray(file)[..., 3].any():
        # What programs leave in the fourth byte of a colour is no transparency.
        return file.convert("RGB")
    if is_deep(file) and file.mode == "I":
        # Pillow scales what has fewer bits to 16, in a mode that could hold more.
        return Image.fromarray(np.asarray(file).astype(np.uint16))
    return file


def is_deep(file: Image.Image) -> bool:
    """Whether an open file that is not yet read is grey with 12 or 16 bits."""
    return file.mode.startswith("I;16") or (file.format == "PPM" and file.mode == "I")


def has_deep_colours(file: ImageFile.ImageFile) -> bool:
    """Whether an open file that is not yet read has colours of 16 bits, of which Pillow reads 8."""
    return len(file.getbands()) > 1 and deep_of(file)


def to_eight_bits(image: Image.Image, white: int | None = None) -> Image.Image:
    """Converts an image of any mode to L or RGB; ValueError if its range of values is unknown.

    `white` is the value of white in 16 bits, by default 65535; what is above is white too.
    """
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "32-bit floating-point numbers"
        msg = f"its pixels are {kind}, whose range is unknown; save it with 8 or 16 bits"
        raise ValueError(msg)
    if image.mode.startswith("I;16"):
        white = white or WIDEST
        wide = np.asarray(image).astype(np.uint32).clip(max=white)
        return Image.fromarray(((wide * 255 + white // 2) // white).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "black")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)
