"""Image files of every kind, written byte by byte where Pillow would not write them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

ORIENTATION = 0x0112
BOMB = 50_000
# How each EXIF orientation turns an upright array into the stored one, by the EXIF standard.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
WIDE = GREY.astype(np.uint16) * 257
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
ANY = NDArray[np.integer]


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    rows: Iterable[bytes],
    before: bytes = b"",
) -> bytes:
    """A PNG file with these rows in it, and other chunks before them."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = (chunk(b"IHDR", head), before, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png(pixels: ANY, before: bytes = b"") -> bytes:
    """A PNG file of pixels (H, W, C), of 8 or 16 bits and 1 to 4 channels."""
    height, width, channels = pixels.shape
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    depth = 8 * pixels.itemsize
    rows = (row.tobytes() for row in big)
    return png_of(width, height, depth, COLOUR_TYPES[channels], rows, before)


def tiff(pixels: ANY, order: str = "<", tags: Mapping[Base, int] | None = None) -> bytes:
    """A TIFF file of pixels (H, W, C), not compressed, in either order of bytes, with tags."""
    height, width, channels = pixels.shape
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = struct.pack(f"{order}{channels}H", *[8 * pixels.itemsize] * channels)
    values = {
        Base.ImageWidth: width,
        Base.ImageLength: height,
        Base.BitsPerSample: 8 * pixels.itemsize,
        Base.Compression: 1,
        Base.PhotometricInterpretation: 2 if channels == 3 else 1,
        Base.StripOffsets: 8,
        Base.SamplesPerPixel: channels,
        Base.RowsPerStrip: height,
        Base.StripByteCounts: len(content),
        **(tags or {}),
    }
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()}
    if channels > 1:
        where = 8 + len(content)
        entries[Base.BitsPerSample] = struct.pack(
            f"{order}HHII", Base.BitsPerSample, 3, channels, where
        )
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(
        entries[tag] for tag in sorted(entries)
    )
    start = 8 + len(content) + len(bits)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + content + bits + directory + bytes(4)


def whole_bomb() -> bytes:
    """A PNG file of 50,000 x 50,000 pixels."""
    row = bytes(BOMB // 8)
    return png_of(BOMB, BOMB, 1, 0, (row for _ in range(BOMB)))


def bombs() -> dict[str, bytes]:
    """Small files of 50,000 x 50,000 pixels that hardly begin."""
    bitmap = struct.pack("<IiiHHIIiiII", 40, BOMB, BOMB, 1, 24, 0, 0, 0, 0, 0, 0)
    return {
        "head.png": png_of(BOMB, BOMB, 8, 2, []),
        "bomb.tif": tiff(
            np.zeros((1, 1, 3), np.uint8), tags={Base.ImageWidth: BOMB, Base.ImageLength: BOMB}
        ),
        "bomb.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + bitmap + bytes(64),
        "bomb.gif": b"GIF89a"
        + struct.pack("<HHBBB", BOMB, BOMB, 0, 0, 0)
        + b",\0\0\0\0"
        + struct.pack("<HHB", BOMB, BOMB, 0)
        + b"\x02\x02\x44\x01\0;",
        "bomb.jpg": jpeg_head(BOMB),
        # 95 million pixels: no more than Pillow would only warn of.
        "twice.png": png_of(9748, 9748, 1, 0, []),
        "notes.png": png(np.zeros((8, 8, 1), np.uint8), before=notes(100 << 20)),
    }


def jpeg_head(side: int) -> bytes:
    """The beginning of a JPEG file."""
    frame = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


def notes(size: int) -> bytes:
    """Text in a PNG file that unpacks to so many bytes."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))


def numbers(kind: type) -> bytes:
    """A TIFF file of numbers of 32 bits."""
    file = io.BytesIO()
    Image.fromarray(GREY[..., 0].astype(kind)).save(file, "TIFF")
    return file.getvalue()


def transparent(channels: int) -> bytes:
    """A PNG file of 16 bits of which one colour is transparent."""
    return png(np.repeat(WIDE, channels, axis=2), before=chunk(b"tRNS", b"\1\1" * channels))


UNKNOWN = {
    "integers": numbers(np.int32),
    "floating-point numbers": numbers(np.float32),
    "signed": tiff(GREY, tags={Base.SampleFormat: 2}),
    "white is 0": tiff(WIDE, tags={Base.PhotometricInterpretation: 0}),
    "channels apart": tiff(np.repeat(WIDE, 3, axis=2), tags={Base.PlanarConfiguration: 2}),
    "a small one of another": tiff(GREY, tags={Base.NewSubfileType: 1}),
    "a grey is transparent": transparent(1),
    "a colour is transparent": transparent(3),
}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
