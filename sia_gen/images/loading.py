"""Loads images as square arrays of one mode and size.

Files are judged by their content, not by their names:

| file | result |
|---|---|
| one of `FORMATS` | read; no other format is, least of all those that run programs |
| empty, truncated, or a pipe or folder instead of a file | an error |
| more than 89 million pixels, 1,073 if cut into tiles | an error, before any memory is allocated |
| very long text in it | an error |
| 1 x 1 pixel | read and enlarged |
| rotated by EXIF | upright |
| several frames or pages | the first one |
| 16 bits, grey | scaled to 8 bits, from black at 0 to white at the recipe's `data.white` |
| 16 bits, colour | scaled over the whole range; another white is an error |
| 32 bits, floating point, signed | an error, because the value of white is unknown |
| palette, CMYK, YCbCr, Lab | converted to RGB |
| transparent | composited on black |
| colour profile, gamma | ignored |
| misread by Pillow (see `_misread_tiff` and `_misread_png`) | an error |
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
from threading import Lock
from typing import BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sia_gen.config.data import Box, NonSquare, Tile
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, one_line
from sia_gen.images.files import FORMATS
from sia_gen.images.squares import Area, area_of, to_square

FIXES = {
    "image": "Replace or remove the file, or set 'data.unreadable' in the recipe to 'skip'.",
    "mask": "Replace the file.",
}
# Photographs that are cut into tiles may have so many times the pixels that Pillow reads safely.
LARGE = 12
_OPENING = Lock()
# White in images of 16 bits whose whole range is used.
WIDEST = 65535
# Orientations by EXIF in which rows are columns.
TURNED = (5, 6, 7, 8)
# Values of TIFF tags.
SIGNED, PLANES, WHITE_IS_ZERO, REDUCED = 2, 2, 0, 1
# Raw modes of PNG for which Pillow compares the transparent colour correctly.
COMPARABLE = ("1", "L", "RGB", "P", "P;1", "P;2", "P;4")

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
    image = _read_in_mode(path, spec)
    square = to_square(image, path, spec.size, spec.non_square)
    # Copied because Pillow's own pixels are read-only, about which torch warns.
    return np.array(to_pixels(square), order="C"), area_of(image.size, spec.size, spec.non_square)


def black_image(spec: ImageSpec) -> tuple[Pixels, Area]:
    """Returns what can be scored in place of an image that cannot be read."""
    side = spec.size if spec.tile is None else spec.tile.size
    return np.zeros((len(spec.mode), side, side), np.uint8), Area.whole(side)


def load_photograph(path: Path, spec: ImageSpec) -> Pixels:
    """Reads a photograph to be cut into tiles, (C, H, W), 0 to 255, at the scale of `spec.tile`.

    Raises `ImageError` if it cannot be decoded, or is smaller than a tile.
    """
    image = _read_in_mode(path, spec)
    size = scaled_size(path, image.size, spec)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.array(to_pixels(image), order="C")


def scaled_size(path: Path, size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """Returns width and height at the scale of the tiles; `ImageError` if a tile is larger."""
    if spec.tile is None:
        return size
    width, height = (max(1, round(side * (spec.tile.scale or 1))) for side in size)
    if min(width, height) < spec.tile.size:
        scaled = "" if (width, height) == size else f", {width} x {height} at the scale"
        raise ImageError(
            problem=f"{path} is {size[0]} x {size[1]} pixels{scaled}, less than a tile of "
            f"{spec.tile.size}.",
            fix="Choose smaller tiles with --tile, or another --scale.",
        )
    return width, height


def _read_in_mode(path: Path, spec: ImageSpec) -> Image.Image:
    """Reads the region of interest of an image in the mode of a model."""
    image = read_image(path, spec.white, large=spec.tile is not None)
    if spec.roi is not None:
        size_within(path, image.size, spec)
        image = image.crop(spec.roi)
    return image if image.mode == spec.mode else image.convert(spec.mode)


def size_within(path: Path, size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """Returns width and height of the region of interest; `ImageError` if it is not in an image."""
    if spec.roi is None:
        return size
    left, top, right, bottom = spec.roi
    if right > size[0] or bottom > size[1]:
        raise ImageError(
            problem=f"{path} is {size[0]} x {size[1]} pixels, but the region of interest ends at "
            f"{right}, {bottom}.",
            fix="Correct 'data.roi' in the recipe, which is left, top, right and bottom.",
        )
    return right - left, bottom - top


def load_area(path: Path, spec: ImageSpec) -> Area:
    """Returns where the picture of a file is in the image that `load_image` makes of it."""
    if spec.non_square != "pad":
        return Area.whole(spec.size)
    return area_of(size_within(path, upright_size(path), spec), spec.size, spec.non_square)


def load_images(paths: Sequence[Path], spec: ImageSpec) -> Pixels:
    """Reads images into memory, (N, C, size, size), 0 to 255; see `load_image`."""
    images = np.empty((len(paths), len(spec.mode), spec.size, spec.size), np.uint8)
    for place, path in enumerate(paths):
        images[place] = load_image(path, spec)
    return images


def read_image(path: Path, white: int | None = None, *, large: bool = False) -> Image.Image:
    """Reads an image file upright, in mode L or RGB; `ImageError` if it cannot be decoded.

    `white` is the value of white in images of 16 bits, by default 65535; a `large` image may have
    `LARGE` times the pixels of others.
    """
    with open_image(path, "image", large=large) as file:
        if white not in (None, WIDEST) and has_deep_colours(file):
            msg = (
                f"its colours have 16 bits, which are read over the whole range, so {white} cannot "
                "be white; save it with 8 bits, or set 'data.white' to 65535"
            )
            raise ValueError(msg)
        return to_eight_bits(upright(file), white)


def upright_size(path: Path, what: Literal["image", "mask"] = "image") -> tuple[int, int]:
    """Returns width and height as `read_image` gives them, without decoding any pixels."""
    with open_image(path, what, large=True) as file:
        turned = file.getexif().get(ExifTags.Base.Orientation) in TURNED
        # Pillow gives the size of TIFF files as they are upright.
        as_stored = turned and not isinstance(file, TiffImagePlugin.TiffImageFile)
        return (file.height, file.width) if as_stored else file.size


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


@contextmanager
def open_image(
    path: Path, what: Literal["image", "mask"], *, large: bool = False
) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file without reading pixels; whatever goes wrong becomes an `ImageError`.

    A `large` image may have `LARGE` times the pixels that Pillow reads safely.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe would wait for somebody to write to it.
            msg = "it is not a file"
            raise ValueError(msg)
        # Given the path, Pillow maps plain TIFF files into memory and mixes up turned ones.
        with path.open("rb") as stream, _opened(stream, large=large) as file:
            yield file
    # A damaged file makes Pillow raise almost anything.
    except Exception as error:
        raise ImageError(
            problem=f"cannot read the {what} {path}: {_reason(error)}.", fix=FIXES[what]
        ) from error


def _opened(stream: BinaryIO, *, large: bool) -> ImageFile.ImageFile:
    # Pillow has one limit for the whole process.
    with _OPENING:
        limit = Image.MAX_IMAGE_PIXELS
        most = limit * LARGE if large and limit is not None else limit
        try:
            Image.MAX_IMAGE_PIXELS = most
            file = Image.open(stream, formats=list(FORMATS))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    _require_readable(file, most)
    return file


def upright(file: Image.Image) -> Image.Image:
    """Reads the first frame of an open file, rotated as its EXIF data say."""
    ImageOps.exif_transpose(file, in_place=True)
    if file.mode == "P" and file.palette is not None:
        colours = len(file.palette.palette) // len(file.palette.mode)
        if np.asarray(file).max() >= colours:
            msg = f"it has pixels beyond the {colours} colours of its palette"
            raise ValueError(msg)
    return file


def has_deep_colours(file: ImageFile.ImageFile) -> bool:
    """Whether an open file that is not yet read has colours of 16 bits, of which Pillow reads 8."""
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        deep = _is_deep(file)
    else:
        deep = file.format == "PNG" and "16" in str(file.tile[0].args)
    return deep and not file.mode.startswith("I;16")


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


def _require_readable(file: ImageFile.ImageFile, limit: int | None) -> None:
    """Refuses images that are too large, or of which Pillow would silently return wrong pixels."""
    pixels = file.width * file.height
    # Between once and twice this limit Pillow only warns.
    if limit is not None and pixels > limit:
        msg = f"Image size ({pixels} pixels) exceeds limit of {limit} pixels, could be a bomb"
        raise Image.DecompressionBombError(msg)
    reason = _misread_tiff(file) if isinstance(file, TiffImagePlugin.TiffImageFile) else None
    if file.format == "PNG":
        reason = _misread_png(file)
    if reason is not None:
        msg = f"{reason}; save it as PNG with 8 bits, or 16 if it is grey"
        raise ValueError(msg)


def _is_deep(file: TiffImagePlugin.TiffImageFile) -> bool:
    return any(bits > 8 for bits in file.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))


def _misread_tiff(file: TiffImagePlugin.TiffImageFile) -> str | None:
    tags, base = file.tag_v2, ExifTags.Base
    deep = _is_deep(file)
    if file.mode == "L" and SIGNED in tags.get(base.SampleFormat, ()):
        return "its pixels are signed numbers"
    if deep and tags.get(base.PhotometricInterpretation) == WHITE_IS_ZERO:
        return "its white is 0 and it has more than 8 bits"
    planes = tags.get(base.PlanarConfiguration) == PLANES
    if planes and (deep or tags.get(base.SamplesPerPixel, 1) == len("LA")):
        return "its channels are stored separately and have more than 8 bits or transparency"
    if tags.get(base.NewSubfileType, 0) & REDUCED:
        return "its first picture is a reduced version of another one"
    return None


def _misread_png(file: ImageFile.ImageFile) -> str | None:
    if file.mode == "P" and file.palette is None:
        return "it has no palette"
    if "transparency" in file.info and file.tile[0].args not in COMPARABLE:
        return "it has a transparent colour and a depth other than 8 bits"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is empty, damaged, or not one of {', '.join(FORMATS)}"
    message = error.strerror if isinstance(error, OSError) else None
    return message or " ".join(str(error).split()).rstrip(".") or type(error).__name__
