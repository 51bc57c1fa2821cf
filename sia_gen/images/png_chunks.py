"""The chunks of a PNG file, without its pixels."""

from collections.abc import Iterator
from typing import IO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS, END, EXIF, TEXTS = b"IDAT", b"IEND", b"eXIf", (b"iTXt", b"tEXt", b"zTXt")
# How texts begin that may say how an image is rotated.
ROTATING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


class Chunk(NamedTuple):
    """Where the content of a chunk is in a file."""

    name: bytes
    offset: int
    length: int


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
        chunk = Chunk(name, offset + 8, int.from_bytes(head[:4], "big"))
        yield chunk
        # A checksum follows.
        offset = chunk.offset + chunk.length + 4


def has_late_metadata(stream: IO[bytes]) -> bool:
    """Whether what may rotate an image comes after its pixels.

    There Pillow finds it only if it reads these.
    """
    late = False
    for chunk in chunks_of(stream):
        late = late or chunk.name == PIXELS
        if late and (chunk.name == EXIF or (chunk.name in TEXTS and _rotates(stream, chunk))):
            return True
    return False


def _rotates(stream: IO[bytes], text: Chunk) -> bool:
    stream.seek(text.offset)
    return stream.read(max(map(len, ROTATING))).startswith(ROTATING)
