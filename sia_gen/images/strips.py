"""Large photographs, read strip by strip, so that memory does not grow with their height.

A strip is some rows of a photograph over its whole width. Files of these kinds are never decoded as
a whole:

| format | kind |
|---|---|
| TIFF | strips or tiles, uncompressed or LZW, Deflate, PackBits or JPEG; channels together |
| BMP | uncompressed, without transparency |
| PPM | binary: PBM, PGM and PPM |
| PNG | 8 bits, or grey of 16; not interlaced |

Others, and those that EXIF data rotate, are decoded as a whole, and only cut into strips.
"""

from collections import deque
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from sia_gen.images.counted import Scope, load_scored
from sia_gen.images.loading import (
    ImageSpec,
    Pixels,
    scaled_size,
    size_within,
    to_picture,
    to_pixels,
)
from sia_gen.images.opening import (
    UPRIGHT,
    decoded,
    open_image,
    open_stream,
    orientation_of,
    upright_size,
    upright_size_of,
)
from sia_gen.images.png_strips import has_png_strips, png_strips
from sia_gen.images.squares import Area
from sia_gen.images.strip_files import strip_files

# Photographs with more pixels are read in strips.
LARGE_PIXELS = 1 << 25
# Rows of a strip, unless a file has higher ones.
ROWS = 256


class Strips:
    """A photograph (C, H, W), 0 to 255, whose rows are read from the top on, each once."""

    def __init__(self, shape: tuple[int, int, int], strips: Iterator[Pixels]) -> None:
        self.shape = shape
        self._strips = strips
        # Rows that may be asked for again, and where they begin and end.
        self._held = deque[Pixels]()
        self._top = self._bottom = self._sum = 0

    def rows(self, top: int, bottom: int) -> Pixels:
        """Returns some rows, (C, h, W); none above them can be read later.

        Raises:
            ImageError: If the file is damaged there.
        """
        while self._bottom < bottom:
            strip = next(self._strips)
            self._held.append(strip)
            self._bottom += strip.shape[1]
            self._sum += int(strip.sum(dtype=np.int64))
        while self._top + self._held[0].shape[1] <= top:
            self._top += self._held.popleft().shape[1]
        held = np.concatenate(self._held, axis=1)
        return held[:, top - self._top : bottom - self._top]

    @property
    def brightness(self) -> float:
        """Mean of all pixels down to the last row that was read, 0 to 255."""
        channels, _, width = self.shape
        return self._sum / (channels * self._bottom * width)


# What is scored: an image in memory, or a photograph that is still to be read.
Picture = Pixels | Strips


def rows_of(photograph: Picture, top: int, bottom: int) -> Pixels:
    """Returns some rows of a photograph, (C, h, W); of `Strips` none above them comes again."""
    if isinstance(photograph, Strips):
        return photograph.rows(top, bottom)
    return photograph[:, top:bottom]


def within_area(picture: Picture, area: Area) -> Picture:
    """Returns the area of a picture; `Strips` are nothing but that."""
    if isinstance(picture, Strips):
        return picture
    found: Pixels = area.cut(picture)
    return found


def brightness_of(picture: Picture) -> float:
    """Returns the mean of all pixels, 0 to 255; `Strips` must have been read to the end."""
    return picture.brightness if isinstance(picture, Strips) else float(picture.mean())


def open_scored(path: Path, spec: ImageSpec) -> tuple[Picture, Scope]:
    """Reads an image as `load_scored` does, or opens it to be read in strips if it is large.

    A mask of what to ignore is as large as its photograph, which is then in memory, too.
    """
    if spec.ignore is not None or not is_large(path, spec):
        return load_scored(path, spec)
    strips = open_strips(path, spec)
    _, rows, columns = strips.shape
    width, height = scaled_size(path, (columns, rows), spec)
    scope = Scope(Area(0, height, 0, width))
    if (width, height) == (columns, rows):
        return strips, scope
    bands = (strips.rows(top, min(top + ROWS, rows)) for top in range(0, rows, ROWS))
    narrow = [_resized(band, width, band.shape[1]) for band in bands]
    return _resized(np.concatenate(narrow, axis=1), width, height), scope


def open_strips(path: Path, spec: ImageSpec) -> Strips:
    """Opens the region of interest of a photograph, which is neither scaled nor cut."""
    size = upright_size(path)
    width, height = size_within(path, size, spec)
    return Strips((len(spec.mode), height, width), _strips_of_interest(path, spec, size))


def is_large(path: Path, spec: ImageSpec) -> bool:
    """Whether a file is a large photograph that is cut into tiles."""
    if spec.tile is None:
        return False
    width, height = upright_size(path)
    return width * height > LARGE_PIXELS


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    picture = to_picture(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(to_pixels(picture), order="C")


def _strips_of_interest(path: Path, spec: ImageSpec, size: tuple[int, int]) -> Iterator[Pixels]:
    """Yields the strips of the region of interest of a photograph of some width and height."""
    left, first, right, last = spec.roi or (0, 0, *size)
    top = 0
    with open_image(path, "image", large=True) as file:
        if upright_size_of(file) != size:
            msg = "it has changed since it was opened"
            raise ValueError(msg)
        for strip in _decoded_strips(file, spec.white):
            begin, end = max(first - top, 0), min(last - top, strip.height)
            if begin < end:
                found = strip.crop((left, begin, right, end)).convert(spec.mode)
                yield np.array(to_pixels(found), order="C")
            top += strip.height


def _decoded_strips(file: ImageFile.ImageFile, white: int | None) -> Iterator[Image.Image]:
    """Yields the strips of an open file, in mode L or RGB."""
    parts = _open_strips(file)
    if parts is None:
        whole = decoded(file, white)
        for top in range(0, whole.height, ROWS):
            yield whole.crop((0, top, whole.width, min(top + ROWS, whole.height)))
        return
    for part, left_out in parts:
        strip = decoded(part, white)
        yield strip.crop((0, left_out, strip.width, strip.height))


def _open_strips(file: ImageFile.ImageFile) -> Iterator[tuple[ImageFile.ImageFile, int]] | None:
    """Yields strips as open files, and how many rows to leave out of each; None if impossible."""
    png = file.format == "PNG"
    # To find what rotates a PNG file from behind its pixels, Pillow reads and closes it.
    if file.fp is None or (png and not has_png_strips(file.fp)) or orientation_of(file) != UPRIGHT:
        return None
    if png:
        return png_strips(file.fp, ROWS)
    contents = strip_files(file, ROWS)
    return None if contents is None else _opened(contents)


def _opened(contents: Iterator[bytes]) -> Iterator[tuple[ImageFile.ImageFile, int]]:
    for content in contents:
        with open_stream(BytesIO(content), large=True) as file:
            yield file, 0
