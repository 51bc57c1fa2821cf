"""Reads photographs wherever they are: in files, in bytes, in Pillow's images or in arrays.

The same picture gives the same pixels, whichever of these it comes as. Arrays are (H, W) or
(H, W, C), C = 1, 3 (red, green, blue) or 4 (with alpha), of 8 or 16 bits.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from sia_gen.errors import ImageError
from sia_gen.images.opening import (
    decoded,
    explained,
    has_deep_colours,
    open_image,
    open_stream,
    require_readable,
    require_white,
    to_eight_bits,
    upright,
)
from sia_gen.io.files import worker_threads

Source = str | Path | bytes | Image.Image | NDArray[np.uint8] | NDArray[np.uint16]
CHANNELS = (1, 3, 4)


class Photograph(NamedTuple):
    """A photograph at its own size, upright, in mode L or RGB, and the kind that it came as."""

    image: Image.Image
    kind: str  # see `kind_of`


class Header(NamedTuple):
    """What the header of a file says; EXIF data may exchange width and height."""

    sides: tuple[int, int]  # the longer and the shorter one, in pixels
    kind: str


def read_photograph(source: Source, white: int | None = None, *, large: bool = False) -> Photograph:
    """Reads a photograph from any source, which stays as it is.

    Args:
        source: The path of a file, the bytes of one, an image of Pillow, or an array.
        white: The value of white in images of 16 bits, by default 65535.
        large: Whether it may have more pixels than Pillow reads safely; see `open_image`.

    Raises:
        ImageError: If it cannot be decoded, or its range of values is unknown.
    """
    if isinstance(source, str | Path):
        with open_image(Path(source), "image", large=large) as file:
            return _from_file(file, white)
    with explained(name_of(source), "image", "Give another image."):
        if isinstance(source, bytes):
            with open_stream(io.BytesIO(source), large=large) as file:
                return _from_file(file, white)
        if isinstance(source, Image.Image):
            return _from_pillow(source, white, large=large)
        return _from_array(source, white)


def name_of(source: Source) -> str:
    """Returns what errors call a source."""
    return str(source) if isinstance(source, str | Path) else "that was given"


def kind_of(image: Image.Image) -> str:
    """Returns `grey` or `colour`, with `, 16 bits` if it has them; a file must not be read yet."""
    wide = image.mode.startswith("I;16")
    deep = wide or (_is_unread(image) and has_deep_colours(image))
    return _kind(grey=wide or image.mode in ("1", "L", "LA", "La"), deep=deep)


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Returns the headers of files, without those that cannot be read."""
    with worker_threads() as pool:
        return [header for header in pool.map(_read_header, paths) if header is not None]


def _read_header(path: Path) -> Header | None:
    try:
        with open_image(path, "image", large=True) as file:
            return Header((max(file.size), min(file.size)), kind_of(file))
    except ImageError:
        return None


def _kind(*, grey: bool, deep: bool) -> str:
    return f"{'grey' if grey else 'colour'}{', 16 bits' if deep else ''}"


def _is_unread(image: Image.Image) -> bool:
    return isinstance(image, ImageFile.ImageFile) and bool(image.tile)


def _from_file(file: ImageFile.ImageFile, white: int | None) -> Photograph:
    kind = kind_of(file)
    return Photograph(decoded(file, white), kind)


def _from_pillow(image: Any, white: int | None, *, large: bool) -> Photograph:
    kind = kind_of(image)
    if _is_unread(image):
        require_readable(image, large=large)
        require_white(white, deep_colours=has_deep_colours(image))
    # The caller's image stays as it is: this makes a copy, even of one that is upright.
    turned = upright(ImageOps.exif_transpose(image))
    return Photograph(to_eight_bits(turned, white), kind)


def _from_array(pixels: Any, white: int | None) -> Photograph:
    values = np.asarray(pixels)
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels not in CHANNELS or not values.size:
        msg = f"its shape is {values.shape}, not (height, width) or (height, width, 3)"
        raise ValueError(msg)
    if values.dtype not in (np.uint8, np.uint16):
        msg = f"its values are {values.dtype}, not 8 bits (uint8) or 16 bits (uint16)"
        raise ValueError(msg)
    grey, deep = channels == 1, values.dtype == np.uint16
    require_white(white, deep_colours=deep and not grey)
    if grey:
        values = values.reshape(values.shape[:2])
    elif deep:
        # As Pillow reads files.
        values = (values >> 8).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(values))
    return Photograph(to_eight_bits(image, white), _kind(grey=grey, deep=deep))
