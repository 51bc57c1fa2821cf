"""The chunks of a PNG file, without its pixels."""

from collections.abc import Iterator
from typing import IO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks of pixels, and those that may say how an image is rotated, even after its pixels.
PIXELS, METADATA = b"IDAT", {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}


class Chunk(NamedTuple):
    """Where the content of a chunk is in a file."""

    name: bytes
    offset: int
    length: int


def chunks_of(stream: IO[bytes]) -> Iterator[Chunk]:
    """Yields the chunks of a PNG file up to its end, or to where it is cut off or damaged."""
    offset = len(SIGNATURE)
    while True:
        stream.seek(offset)
        head = stream.read(8)
        if len(head) < 8:
            return
        chunk = Chunk(head[4:], offset + 8, int.from_bytes(head[:4], "big"))
        yield chunk
        # A checksum follows.
        offset = chunk.offset + chunk.length + 4


def has_late_metadata(stream: IO[bytes]) -> bool:
    """Whether metadata come after the pixels, where Pillow finds them only if it reads these."""
    names = [chunk.name for chunk in chunks_of(stream)]
    after = names[names.index(PIXELS) :] if PIXELS in names else []
    return not METADATA.isdisjoint(after)
