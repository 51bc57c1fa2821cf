"""The chunks of a PNG file, without its pixels."""

import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER, PIXELS, END, EXIF = b"IHDR", b"IDAT", b"IEND", b"eXIf"
TEXTS = (b"iTXt", b"tEXt", b"zTXt")
# How texts begin that may say how an image is rotated.
ROTATING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


class Chunk(NamedTuple):
    """Where the content of a chunk is in a file."""

    name: bytes
    offset: int
    length: int


def chunk(name: bytes, data: bytes) -> bytes:
    """Returns a chunk as it is in a file."""
    checksum = zlib.crc32(name + data)
    return len(data).to_bytes(4, "big") + name + data + checksum.to_bytes(4, "big")


def chunks_of(stream: IO[bytes]) -> Iterator[Chunk]:
    """Yields the chunks of a PNG file up to its end, or to where it is cut off or damaged."""
    offset = len(SIGNATURE)
    name = b""
    # What comes after the end may be anything, of any size.
    while name != END:
        stream.seek(offset)
        head = stream.read(8)
        if len(head) < 8:
            return
        name = head[4:]
        found = Chunk(name, offset + 8, int.from_bytes(head[:4], "big"))
        yield found
        # A checksum follows.
        offset = found.offset + found.length + 4


def has_late_metadata(stream: IO[bytes]) -> bool:
    """Whether what may rotate an image comes after its pixels.

    There Pillow finds it only if it reads these.
    """
    late = False
    for one in chunks_of(stream):
        late = late or one.name == PIXELS
        if late and (one.name == EXIF or (one.name in TEXTS and _rotates(stream, one))):
            return True
    return False


def _rotates(stream: IO[bytes], text: Chunk) -> bool:
    stream.seek(text.offset)
    return stream.read(max(map(len, ROTATING))).startswith(ROTATING)
