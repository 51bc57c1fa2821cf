"""Reads image files: which they are, and what their pixels mean.

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

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sia_gen.errors import ImageError
from sia_gen.images.files import FORMATS
from sia_gen.images.misread import deep_of, misread, unidentified
from sia_gen.images.png_chunks import has_late_metadata

FIXES = {
    "image": "Replace or remove the file, or set 'data.unreadable' in the recipe to 'skip'.",
    "mask": "Replace the file.",
}
# Photographs that are cut into tiles may have so many times the pixels that Pillow reads safely.
LARGE = 12
ABOUT_TILES = f"Photographs that --tile cuts into tiles may have {LARGE} times the pixels."
_OPENING = Lock()
# What Pillow raises, or says between once and twice its limit.
TOO_MANY = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# White in images of 16 bits whose whole range is used.
WIDEST = 65535
# Orientations by EXIF: as it should be, and those in which rows are columns.
UPRIGHT, TURNED = 1, (5, 6, 7, 8)


def read_image(path: Path, white: int | None = None, *, large: bool = False) -> Image.Image:
    """Reads an image file upright, in mode L or RGB; `ImageError` if it cannot be decoded.

    `white` is the value of white in images of 16 bits, by default 65535; a `large` image may have
    `LARGE` times the pixels of others.
    """
    with open_image(path, "image", large=large) as file:
        return decoded(file, white)


def decoded(file: ImageFile.ImageFile, white: int | None) -> Image.Image:
    """Reads an open file as `read_image` does; ValueError if its range of values is unknown."""
    require_white(white, deep_colours=has_deep_colours(file))
    return to_eight_bits(upright(file), white)


def upright_size(path: Path, what: Literal["image", "mask"] = "image") -> tuple[int, int]:
    """Returns width and height as `read_image` gives them, without decoding any pixels."""
    with open_image(path, what, large=True) as file:
        return upright_size_of(file)


def upright_size_of(file: ImageFile.ImageFile) -> tuple[int, int]:
    """Returns width and height of an open file as they are when it is upright."""
    turned = orientation_of(file) in TURNED
    # Pillow gives the size of TIFF files as they are upright.
    as_stored = turned and not isinstance(file, TiffImagePlugin.TiffImageFile)
    return (file.height, file.width) if as_stored else file.size


def orientation_of(file: ImageFile.ImageFile) -> int:
    """Returns how EXIF data rotate an open file, 1 if they do not."""
    # Pillow would read all pixels of a PNG file to look for EXIF data behind them.
    known = file.format == "PNG" and file.fp is not None and not has_late_metadata(file.fp)
    exif = Image.Image.getexif(file) if known else file.getexif()
    found: int = exif.get(ExifTags.Base.Orientation, UPRIGHT)
    return found


@contextmanager
def open_image(
    path: Path, what: Literal["image", "mask"], *, large: bool = False
) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file without reading pixels; whatever goes wrong becomes an `ImageError`.

    A `large` image may have `LARGE` times the pixels that Pillow reads safely.
    """
    try:
        with explained(f"the {what} {path}", FIXES[what]):
            if not stat.S_ISREG(path.stat().st_mode):
                # Opening a pipe would wait for somebody to write to it.
                msg = "it is not a file"
                raise ValueError(msg)
            # Given the path, Pillow maps plain TIFF files into memory and mixes up turned ones.
            with path.open("rb") as stream, open_stream(stream, large=large) as file:
                yield file
    except ImageError as error:
        if large or not isinstance(error.__cause__, TOO_MANY):
            raise
        raise ImageError(problem=error.problem, fix=f"{error.fix} {ABOUT_TILES}") from error


@contextmanager
def open_stream(stream: IO[bytes], *, large: bool = False) -> Iterator[ImageFile.ImageFile]:
    """Opens what is in an image file without reading pixels; it raises almost anything."""
    with _opened(stream, large=large) as file:
        require_readable(file, large=large)
        yield file


@contextmanager
def explained(name: str, fix: str) -> Iterator[None]:
    """Turns whatever goes wrong with an image of some name into an `ImageError`."""
    try:
        yield
    # A damaged file makes Pillow raise almost anything.
    except Exception as error:
        raise ImageError(problem=f"cannot read {name}: {_reason(error)}.", fix=fix) from error


def _opened(stream: IO[bytes], *, large: bool) -> ImageFile.ImageFile:
    # Pillow has one limit for the whole process.
    with _OPENING:
        limit = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = _most_pixels(large=large)
            return Image.open(stream, formats=list(FORMATS))
        except UnidentifiedImageError as error:
            msg = unidentified(stream)
            raise ValueError(msg) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _most_pixels(*, large: bool) -> int | None:
    limit = Image.MAX_IMAGE_PIXELS
    return limit * LARGE if large and limit is not None else limit


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


def require_white(white: int | None, *, deep_colours: bool) -> None:
    """Raises ValueError if colours of 16 bits are to have another white than 65535."""
    if deep_colours and white not in (None, WIDEST):
        msg = (
            f"its colours have 16 bits, which are read over the whole range, so {white} cannot "
            "be white; save it with 8 bits, or set 'data.white' to 65535"
        )
        raise ValueError(msg)


def is_deep(file: Image.Image) -> bool:
    """Whether an open file that is not yet read is grey with 12 or 16 bits."""
    return file.mode.startswith("I;16") or (file.format == "PPM" and file.mode == "I")


def has_deep_colours(file: Image.Image) -> bool:
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


def require_readable(file: ImageFile.ImageFile, *, large: bool = False) -> None:
    """Refuses images that are too large, or of which Pillow would silently return wrong pixels."""
    pixels, limit = file.width * file.height, _most_pixels(large=large)
    # Between once and twice this limit Pillow only warns.
    if limit is not None and pixels > limit:
        msg = f"Image size ({pixels} pixels) exceeds limit of {limit} pixels, could be a bomb"
        raise Image.DecompressionBombError(msg)
    reason = misread(file)
    if reason is not None:
        raise ValueError(reason)


def _reason(error: Exception) -> str:
    message = error.strerror if isinstance(error, OSError) else None
    return message or " ".join(str(error).split()).rstrip(".") or type(error).__name__
