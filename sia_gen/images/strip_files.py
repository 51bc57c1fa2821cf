"""Makes small image files of some rows of a large one, which Pillow reads as any other file.

Pillow decodes whole files only. But where the rows of a file are stored apart, a header of another
height before some of them is a file, too, and means the same pixels.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from os import SEEK_END
from typing import IO, Any, Literal, NamedTuple

from PIL import ExifTags, ImageFile, TiffImagePlugin

Tag = ExifTags.Base
# Compressions of TIFF whose strips and tiles need nothing else: none, LZW, JPEG, Deflate, PackBits.
UNCOMPRESSED, COMPRESSIONS = 1, (1, 5, 7, 8, 32773, 32946)
TOGETHER = 1  # channels of a pixel stand beside each other
# Tags that say what the stored bytes mean.
MEANINGS = (
    *(Tag.ImageWidth, Tag.BitsPerSample, Tag.Compression, Tag.PhotometricInterpretation),
    *(Tag.FillOrder, Tag.SamplesPerPixel, Tag.PlanarConfiguration, Tag.Predictor, Tag.ColorMap),
    *(Tag.TileWidth, Tag.TileLength, Tag.ExtraSamples, Tag.SampleFormat, Tag.JPEGTables),
    *(Tag.YCbCrCoefficients, Tag.YCbCrSubSampling, Tag.ReferenceBlackWhite),
)
LONG, LONG8 = 4, 16  # types of tags
# Bytes before the pixels of BMP and PPM files. Each part has a header, so they must not be many.
HEADER = 1 << 12
# Offset and number of bytes.
Place = tuple[int, int]
# Returns a TIFF header for some rows, the rows of each strip, and the bytes of strips or tiles.
Header = Callable[[int, int, list[int]], bytes]


class Part(NamedTuple):
    """A file of some rows: its header, and where its pixels are in the large one."""

    header: bytes
    places: list[Place]


def strip_files(file: ImageFile.ImageFile, rows: int) -> Iterator[bytes] | None:
    """Yields files that each hold about `rows` rows of an open one, from the top down.

    None if a file is of a kind of which that is not possible.
    """
    if file.fp is None:
        return None
    try:
        parts = _parts_of(file, file.fp, rows)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # Of a damaged header Pillow says itself what is wrong, or reads it nevertheless.
        return None
    return None if parts is None else map(partial(_content, file.fp), parts)


def _parts_of(file: ImageFile.ImageFile, stream: IO[bytes], rows: int) -> Iterator[Part] | None:
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        return _parts_of_tiff(file, stream, rows)
    if len(file.tile) != 1 or file.tile[0].codec_name not in ("raw", "ppm"):
        return None
    if file.tile[0].offset > HEADER:
        return None
    stream.seek(0)
    start = stream.read(file.tile[0].offset)
    if file.format == "BMP":
        return _parts_of_bmp(file, start, rows)
    return _parts_of_ppm(file, start, rows) if file.format == "PPM" else None


def _content(stream: IO[bytes], part: Part) -> bytes:
    found = [part.header]
    for offset, count in part.places:
        stream.seek(offset)
        found.append(stream.read(count))
    return b"".join(found)


def _parts_of_bmp(file: ImageFile.ImageFile, header: bytes, rows: int) -> Iterator[Part] | None:
    arguments: Any = file.tile[0].args
    _, stride, direction = arguments
    # Old headers have other fields, and transparency is only known from all pixels together.
    if header[14] < 40 or file.mode == "RGBA":
        return None

    def part(top: int) -> Part:
        count = min(rows, file.height - top)
        first = top if direction == 1 else file.height - top - count
        # Rows from the top on have a negative height.
        height = (-direction * count).to_bytes(4, "little", signed=True)
        place = len(header) + first * stride, count * stride
        return Part(header[:22] + height + header[26:], [place])

    return map(part, range(0, file.height, rows))


def _parts_of_ppm(file: ImageFile.ImageFile, start: bytes, rows: int) -> Iterator[Part] | None:
    kind, _, _, *highest = re.sub(rb"#[^\r\n]*", b"", start).split()
    # A comment within a number leaves more words than there are.
    if kind not in (b"P4", b"P5", b"P6") or len(highest) != (kind != b"P4"):
        return None
    bits = 1 if kind == b"P4" else 16 if int(highest[0]) > 255 else 8
    stride = (file.width * bits * (3 if kind == b"P6" else 1) + 7) // 8

    def part(top: int) -> Part:
        count = min(rows, file.height - top)
        words = [kind, b"%d" % file.width, b"%d" % count, *highest]
        place = len(start) + top * stride, count * stride
        return Part(b"\n".join(words) + b"\n", [place])

    return map(part, range(0, file.height, rows))


def _parts_of_tiff(
    file: TiffImagePlugin.TiffImageFile, stream: IO[bytes], rows: int
) -> Iterator[Part] | None:
    tags = file.tag_v2
    compression = tags.get(Tag.Compression, UNCOMPRESSED)
    together = tags.get(Tag.PlanarConfiguration, TOGETHER) == TOGETHER
    if compression not in COMPRESSIONS or not together:
        return None
    header = partial(_tiff_header, tags, {tag: tags[tag] for tag in MEANINGS if tag in tags})
    if compression == UNCOMPRESSED and Tag.TileOffsets not in tags:
        return _parts_of_rows(file, rows, header)
    return _parts_of_blocks(file, stream, rows, header)


def _parts_of_rows(
    file: TiffImagePlugin.TiffImageFile, rows: int, header: Header
) -> Iterator[Part] | None:
    """Returns parts of uncompressed strips, which may be as high as the image."""
    tags = file.tag_v2
    height, offsets = _height_of_strips(file), _values(tags, Tag.StripOffsets)
    bits = tags.get(Tag.BitsPerSample, (1,))
    stride = (file.width * sum(bits) + 7) // 8
    known = len(bits) == tags.get(Tag.SamplesPerPixel, 1)
    if not known or len(offsets) != -(-file.height // height):
        return None

    def part(top: int) -> Part:
        bottom = min(top + rows, file.height)
        places = []
        for strip in range(top // height, -(-bottom // height)):
            first, end = max(top, strip * height), min(bottom, (strip + 1) * height)
            places.append(
                (offsets[strip] + (first - strip * height) * stride, (end - first) * stride)
            )
        count = bottom - top
        return Part(header(count, count, [count * stride]), places)

    return map(part, range(0, file.height, rows))


def _parts_of_blocks(
    file: TiffImagePlugin.TiffImageFile, stream: IO[bytes], rows: int, header: Header
) -> Iterator[Part] | None:
    """Returns parts of rows of tiles, or of compressed strips."""
    tags = file.tag_v2
    height, across = _height_of_strips(file), 1
    names = Tag.StripOffsets, Tag.StripByteCounts
    if Tag.TileOffsets in tags:
        height, across = tags[Tag.TileLength], -(-file.width // tags[Tag.TileWidth])
        names = Tag.TileOffsets, Tag.TileByteCounts
    places = list(zip(*(_values(tags, name) for name in names), strict=False))
    down, size = -(-file.height // height), stream.seek(0, SEEK_END)
    # Blocks that are larger than the file together would take any amount of memory.
    if down == 1 or len(places) != across * down or sum(count for _, count in places) > size:
        return None
    together = max(1, rows // height)

    def part(first: int) -> Part:
        some = places[first * across : (first + together) * across]
        count = min(together * height, file.height - first * height)
        return Part(header(count, min(height, count), [one for _, one in some]), some)

    return map(part, range(0, down, together))


def _height_of_strips(file: TiffImagePlugin.TiffImageFile) -> int:
    height: int = file.tag_v2.get(Tag.RowsPerStrip, file.height)
    return min(height, file.height)


def _values(tags: Any, tag: Tag) -> tuple[int, ...]:
    found = tags.get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def _tiff_header(
    tags: Any, meanings: dict[int, Any], height: int, strip: int, counts: list[int]
) -> bytes:
    """Returns what comes before strips or tiles of some sizes in a TIFF file of these alone."""
    tiled = Tag.TileOffsets in tags
    order: Literal["little", "big"] = "little" if tags.prefix == b"II" else "big"
    starts = [0, *accumulate(counts[:-1])]
    values = {**meanings, Tag.ImageLength: height}
    values[Tag.TileByteCounts if tiled else Tag.StripByteCounts] = tuple(counts)
    if not tiled:
        values[Tag.RowsPerStrip] = strip
    offsets = Tag.TileOffsets if tiled else Tag.StripOffsets

    def directory(first: int) -> bytes:
        found = TiffImagePlugin.ImageFileDirectory_v2(prefix=tags.prefix)
        every = {**values, offsets: tuple(first + start for start in starts)}
        for tag, value in every.items():
            kind = tags.tagtype.get(tag, LONG)
            counted = tag not in MEANINGS
            found.tagtype[tag] = LONG if counted or kind == LONG8 else kind
            found[tag] = value
        return found.tobytes(8)

    # Pillow adds its length to the offsets of strips, but not of tiles.
    found = directory(8 + len(directory(0)) if tiled else 0)
    return bytes(tags.prefix) + (42).to_bytes(2, order) + (8).to_bytes(4, order) + found
