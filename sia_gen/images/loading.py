"""Loads images as the square arrays of one mode and size that training works on.

What becomes of a file, by its content; its name does not matter:

| kind | what becomes of it |
|---|---|
| PNG, JPEG, TIFF, BMP, WebP, GIF | read; nothing else is, least of all what runs programs as EPS |
| empty, cut off, no file but a pipe or a folder | an error |
| more than 89 million pixels, or huge notes in it | an error, before memory is taken |
| 1 x 1 pixel | read, and enlarged |
| turned by EXIF | upright |
| several frames or pages | the first |
| 16 bits | 8, over the whole range: 12 bits in 16 come out dark |
| 32 bits, floating point, signed | an error: white is not known |
| palette, CMYK, YCbCr, Lab | red, green and blue |
| transparent | on black |
| profile of a colour space, gamma | not applied |
| what Pillow would misread, see `misread.py` | an error |
| damaged inside, and yet decoded | read: nothing tells |

An error is one line; or, if the recipe's `data.unreadable` says so, the file is left out and
counted.
"""

from __future__ import annotations

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
from PIL import Image, ImageOps, UnidentifiedImageError

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, one_line
from sia_gen.images.misread import require_palette, require_rightly_read

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
FIXES = {
    "image": "Replace the file, take it out, or set the recipe's 'data.unreadable' to 'skip'.",
    "mask": "Replace the file.",
}


@dataclass(frozen=True)
class ImageSpec:
    """The form in which a model takes images.

    Attributes:
        mode: `"L"` for one grey channel, `"RGB"` for three.
        size: Height and width in pixels.
        non_square: Treatment of images that are not square: crop the centre, or stretch. They are
            an error if it is None.
    """

    mode: Literal["L", "RGB"]
    size: int
    non_square: Literal["crop", "stretch"] | None = None

    @classmethod
    def of(cls, recipe: Recipe, size: int) -> Self:
        """Returns the form that a recipe asks for, in the size of one of its models."""
        return cls(recipe.mode, size, recipe.data.non_square)


def load_image(path: Path, spec: ImageSpec) -> NDArray[np.uint8]:
    """Reads an image file.

    Returns:
        (C, size, size), 0 to 255, C = 1 or 3.

    Raises:
        ImageError: If it cannot be decoded, or is not square and `spec` has no rule for that.
    """
    image = in_mode(read_image(path), spec.mode)
    # Copied, as Pillow's own pixels cannot be written to, which torch warns of.
    return np.array(to_pixels(to_square(image, path, spec)), order="C")


def read_image(path: Path) -> Image.Image:
    """Reads an image file of any kind, turned upright; see above what becomes of which.

    Returns:
        An image of mode `"L"` or `"RGB"`.

    Raises:
        ImageError: If it cannot be decoded, or the range of its pixels is not known.
    """
    with opened(path, "image") as file:
        return to_eight_bits(upright(file))


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from its head if that tells."""
    with opened(path, "image") as file:
        return file.size if file.width == file.height else upright(file).size


@contextmanager
def opened(path: Path, what: Literal["image", "mask"]) -> Iterator[Image.Image]:
    """Opens an image file, its pixels not read yet.

    Raises:
        ImageError: If it cannot be opened, and if anything goes wrong while it is open.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # To open a pipe would be to wait for what comes through it.
            msg = "it is no file"
            raise ValueError(msg)
        with Image.open(path, formats=FORMATS) as file:
            require_few_pixels(file)
            require_rightly_read(file)
            yield file
    # What a damaged file makes Pillow raise is whatever its bytes happen to mean.
    except Exception as error:
        raise ImageError(
            problem=f"cannot read the {what} {path}: {reason_of(error)}.", fix=FIXES[what]
        ) from error


def require_few_pixels(file: Image.Image) -> None:
    """Raises `DecompressionBombError` for what Pillow only warns of: up to twice its limit."""
    pixels, limit = file.width * file.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        msg = f"Image size ({pixels} pixels) exceeds limit of {limit} pixels, could be a bomb"
        raise Image.DecompressionBombError(msg)


def reason_of(error: Exception) -> str:
    """What an error that reading an image raised says."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is empty, damaged, or of another kind than {', '.join(FORMATS)}"
    told = error.strerror if isinstance(error, OSError) else None
    return told or " ".join(str(error).split()).rstrip(".") or type(error).__name__


def upright(file: Image.Image) -> Image.Image:
    """The first frame of a file, turned as its EXIF data say."""
    ImageOps.exif_transpose(file, in_place=True)
    require_palette(file)
    return file


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode of Pillow's; itself, not a copy, if that is its own."""
    return image if image.mode == mode else image.convert(mode)


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as `"L"` or `"RGB"`; ValueError if the range of values is not known."""
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floating-point numbers"
        msg = f"its pixels are {kind} of 32 bits, of which white is not known; save it with 8 or 16"
        raise ValueError(msg)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "black")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return in_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def to_square(
    image: Image.Image,
    path: Path,
    spec: ImageSpec,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resizes an image with antialiasing; `path` is named in the error if it is not square."""
    if image.width != image.height and spec.non_square is None:
        raise ImageError(
            problem=f"{path} is {image.width} x {image.height} pixels, not square.",
            fix="Set 'data.non_square' in the recipe to 'crop' (keeps the centre) or 'stretch'.",
        )
    if spec.non_square == "crop":
        return ImageOps.fit(image, (spec.size, spec.size), resampling)
    return image.resize((spec.size, spec.size), resampling)


def load_images(paths: Sequence[Path], spec: ImageSpec) -> NDArray[np.uint8]:
    """Reads images into memory, (N, C, size, size)."""
    images = np.empty((len(paths), len(spec.mode), spec.size, spec.size), np.uint8)
    for place, path in enumerate(paths):
        images[place] = load_image(path, spec)
    return images


def find_unreadable(paths: Sequence[Path], category: str) -> frozenset[Path]:
    """Tries to read images; says in a line on stderr how many of a category cannot be.

    Returns:
        Those that cannot.
    """
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            read_image(path)
        except ImageError as error:
            problems[path] = error.problem
    if problems and os.environ.get("RANK", "0") == "0":
        first = next(iter(problems.values()))
        text = f"{category}: left out {len(problems)} of {len(paths)} images; the first: {first}"
        print(one_line(text), file=sys.stderr, flush=True)
    return frozenset(problems)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """An image (C, H, W), 0 to 255, as a picture of mode L or RGB."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode L or RGB as an image (C, H, W), 0 to 255."""
    return np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1)
