"""Makes small image files of some rows of a large one, which Pillow reads as any other file.

Pillow decodes whole files only. But where the rows of a file are stored apart, a header of another
height before some of them is a file, too, and means the same pixels.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
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
# Bytes of a PPM file's header, which may have comments.
HEADER = 1 << 12
# Offset and number of bytes.
Place = tuple[int, int]


class Part(NamedTuple):
    """A file of some rows: its header, and where its pixels are in the large one."""

    header: bytes
    places: list[Place]


class Rows(NamedTuple):
    """Rows that are stored together, in one or more places."""

    height: int
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


def _parts_of(file: ImageFile.ImageFile, stream: IO[bytes], rows: int) -> list[Part] | None:
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        return _parts_of_tiff(file, rows)
    if len(file.tile) != 1 or file.tile[0].codec_name not in ("raw", "ppm"):
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


def _parts_of_bmp(file: ImageFile.ImageFile, header: bytes, rows: int) -> list[Part] | None:
    arguments: Any = file.tile[0].args
    _, stride, direction = arguments
    # Old headers have other fields, and transparency is only known from all pixels together.
    if header[14] < 40 or file.mode == "RGBA":
        return None
    parts = []
    for top in range(0, file.height, rows):
        count = min(rows, file.height - top)
        first = top if direction == 1 else file.height - top - count
        # Rows from the top on have a negative height.
        height = (-direction * count).to_bytes(4, "little", signed=True)
        place = len(header) + first * stride, count * stride
        parts.append(Part(header[:22] + height + header[26:], [place]))
    return parts


def _parts_of_ppm(file: ImageFile.ImageFile, start: bytes, rows: int) -> list[Part] | None:
    kind, _, _, *highest = re.sub(rb"#[^\r\n]*", b"", start).split()
    if len(start) > HEADER or kind not in (b"P4", b"P5", b"P6"):
        return None
    bits = 1 if kind == b"P4" else 16 if int(highest[0]) > 255 else 8
    stride = (file.width * bits * (3 if kind == b"P6" else 1) + 7) // 8
    parts = []
    for top in range(0, file.height, rows):
        count = min(rows, file.height - top)
        words = [kind, b"%d" % file.width, b"%d" % count, *highest]
        place = len(start) + top * stride, count * stride
        parts.append(Part(b"\n".join(words) + b"\n", [place]))
    return parts


def _parts_of_tiff(file: TiffImagePlugin.TiffImageFile, rows: int) -> list[Part] | None:
    tags = file.tag_v2
    known = tags.get(Tag.Compression, UNCOMPRESSED) in COMPRESSIONS
    if not known or tags.get(Tag.PlanarConfiguration, TOGETHER) != TOGETHER:
        return None
    stored = _tiles_of(file) if Tag.TileOffsets in tags else _strips_of(file)
    if stored is None or len(stored) == 1:
        return None
    parts = []
    together = max(1, rows // stored[0].height)
    for first in range(0, len(stored), together):
        some = stored[first : first + together]
        places = [place for one in some for place in one.places]
        header = _tiff_header(file, sum(one.height for one in some), some[0].height, places)
        parts.append(Part(header, places))
    return parts


def _tiles_of(file: TiffImagePlugin.TiffImageFile) -> list[Rows] | None:
    tags = file.tag_v2
    height = tags[Tag.TileLength]
    across, down = -(-file.width // tags[Tag.TileWidth]), -(-file.height // height)
    places = _places(tags, Tag.TileOffsets, Tag.TileByteCounts)
    if len(places) != across * down:
        return None
    return [
        Rows(min(height, file.height - row * height), places[row * across : (row + 1) * across])
        for row in range(down)
    ]


def _strips_of(file: TiffImagePlugin.TiffImageFile) -> list[Rows] | None:
    tags = file.tag_v2
    height = min(tags.get(Tag.RowsPerStrip, file.height), file.height)
    tops = range(0, file.height, height)
    counts = [min(height, file.height - top) for top in tops]
    if tags.get(Tag.Compression, UNCOMPRESSED) != UNCOMPRESSED:
        places = _places(tags, Tag.StripOffsets, Tag.StripByteCounts)
        if len(places) != len(tops):
            return None
        return [Rows(count, [place]) for count, place in zip(counts, places, strict=True)]
    # Each row is a strip of its own, because strips may be as high as the image.
    bits = tags.get(Tag.BitsPerSample, (1,))
    stride = (file.width * sum(bits) + 7) // 8
    offsets = _values(tags, Tag.StripOffsets)
    if len(offsets) != len(tops) or len(bits) != tags.get(Tag.SamplesPerPixel, 1):
        return None
    return [
        Rows(1, [(offset + row * stride, stride)])
        for offset, count in zip(offsets, counts, strict=True)
        for row in range(count)
    ]


def _places(tags: Any, offsets: Tag, counts: Tag) -> list[Place]:
    return list(zip(_values(tags, offsets), _values(tags, counts), strict=False))


def _values(tags: Any, tag: Tag) -> tuple[int, ...]:
    found = tags.get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def _tiff_header(
    file: TiffImagePlugin.TiffImageFile, height: int, strip: int, places: list[Place]
) -> bytes:
    """Returns what comes before the strips or tiles of a TIFF file with these and no others."""
    tags, tiled = file.tag_v2, Tag.TileOffsets in file.tag_v2
    order: Literal["little", "big"] = "little" if tags.prefix == b"II" else "big"
    counts = [count for _, count in places]
    starts = [0, *accumulate(counts[:-1])]
    values: dict[int, Any] = {tag: tags[tag] for tag in MEANINGS if tag in tags}
    values[Tag.ImageLength] = height
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
