"""Reads a PNG file strip by strip.

Its rows are compressed in one stream, each as the difference from the row above. So each strip
becomes a small PNG file: the last row of the strip before, then its own rows as they are stored.
Pillow decodes that as any other file.
"""

import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from sia_gen.images.opening import open_stream
from sia_gen.images.png_chunks import (
    END,
    HEADER,
    PIXELS,
    SIGNATURE,
    Chunk,
    chunk,
    chunks_of,
    has_late_metadata,
)

# Bytes of a pixel by bit depth and kind of colour. Of 16-bit colours Pillow keeps only 8 bits.
PIXEL_BYTES = {(8, 0): 1, (8, 2): 3, (8, 3): 1, (8, 4): 2, (8, 6): 4, (16, 0): 2}
# Chunks that say what the values of pixels mean.
MEANINGS = (b"PLTE", b"tRNS")
# Bytes of a file that are read at a time.
READ = 1 << 20


def has_png_strips(stream: IO[bytes]) -> bool:
    """Whether a PNG file can be read in strips."""
    chunks = list(chunks_of(stream))
    several = any(one.name == b"acTL" for one in chunks)
    if several or chunks[0].name != HEADER or has_late_metadata(stream):
        return False
    *_, depth, colours, _, _, interlaced = _content(stream, chunks[0])
    return (depth, colours) in PIXEL_BYTES and not interlaced


def png_strips(stream: IO[bytes], rows: int) -> Iterator[tuple[ImageFile.ImageFile, int]]:
    """Yields the strips of a PNG file as open files, and how many rows to leave out of each."""
    chunks = list(chunks_of(stream))
    header = _content(stream, chunks[0])
    meanings = [(one.name, _content(stream, one)) for one in chunks if one.name in MEANINGS]
    width, height = (int.from_bytes(header[place : place + 4], "big") for place in (0, 4))
    # The first byte of a row says what it is the difference from.
    stride = 1 + width * PIXEL_BYTES[header[8], header[9]]
    stored = _Decompressed(stream, [one for one in chunks if one.name == PIXELS])
    above = bytes(stride)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        pixels = zlib.compress(above + stored.read(count * stride), level=0)
        size = width.to_bytes(4, "big") + (count + 1).to_bytes(4, "big")
        found = [(HEADER, size + header[8:]), *meanings, (PIXELS, pixels), (END, b"")]
        content = SIGNATURE + b"".join(chunk(*one) for one in found)
        with open_stream(BytesIO(content), large=True) as strip:
            yield strip, 1
            above = b"\0" + _last_row(strip)


class _Decompressed:
    """The rows of a PNG file as they are stored, from the first on."""

    def __init__(self, stream: IO[bytes], chunks: Sequence[Chunk]) -> None:
        self._compressed = _pieces(stream, chunks)
        self._decompressor = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """Returns the next bytes; ValueError if there are fewer."""
        found, waiting = bytearray(), self._decompressor.unconsumed_tail
        while len(found) < count:
            waiting = waiting or next(self._compressed, b"")
            if not waiting or self._decompressor.eof:
                msg = "image file is truncated"
                raise ValueError(msg)
            found += self._decompressor.decompress(waiting, count - len(found))
            waiting = self._decompressor.unconsumed_tail
        return bytes(found)


def _pieces(stream: IO[bytes], chunks: Sequence[Chunk]) -> Iterator[bytes]:
    for one in chunks:
        for start in range(0, one.length, READ):
            stream.seek(one.offset + start)
            yield stream.read(min(READ, one.length - start))


def _content(stream: IO[bytes], one: Chunk) -> bytes:
    stream.seek(one.offset)
    return stream.read(one.length)


def _last_row(strip: Image.Image) -> bytes:
    """Returns the last row of a strip as a PNG file has it."""
    row = np.asarray(strip)[-1]
    return bytes((row.astype(">u2") if strip.mode.startswith("I;16") else row).tobytes())
