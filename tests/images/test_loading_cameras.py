"""Files as cameras and programs of machine vision write them: read rightly, or truly refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from sia_gen.errors import ImageError
from sia_gen.images.opening import read_image
from sia_gen.images.shapes import find_white, read_headers
from tests.faults.pictures import tiff

RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)
EIGHT = (RAMP * 255).round().astype(np.uint8)


def levels(white: int) -> np.ndarray:
    return (RAMP * white).round().astype(np.uint16 if white > 255 else np.uint8)


def seen(path: Path) -> np.ndarray:
    """What is read of a file, if it decides what is white."""
    header = read_headers([path])[0]
    white = find_white([path]) if header is not None and header.deep else None
    return np.asarray(read_image(path, white)).astype(int)


def netpbm(kind: bytes, values: np.ndarray, white: int) -> bytes:
    """A Netpbm file: P2 is grey in digits, P5 grey and P6 coloured in bytes."""
    head = kind + b"\n32 32\n%d\n" % white
    if kind == b"P2":
        return head + b" ".join(b"%d" % value for value in values.ravel())
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("kind", [b"P2", b"P5"])
@pytest.mark.parametrize(
    ("used", "white"), [(255, 255), (1023, 1023), (4095, 4095), (4095, 65535), (65535, 65535)]
)
def test_grey_netpbm_of_any_depth_is_read(
    tmp_path: Path, kind: bytes, used: int, white: int
) -> None:
    (tmp_path / "x.pgm").write_bytes(netpbm(kind, levels(used), white))
    assert abs(seen(tmp_path / "x.pgm") - EIGHT).max() <= 1


@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
def test_coloured_netpbm_says_what_is_white(tmp_path: Path, white: int) -> None:
    colours = np.stack([levels(white)] * 3, axis=-1)
    (tmp_path / "x.ppm").write_bytes(netpbm(b"P6", colours, white))
    assert abs(seen(tmp_path / "x.ppm")[..., 1] - EIGHT).max() <= 1


def test_colours_that_use_few_of_sixteen_bits_are_refused_instead_of_black(tmp_path: Path) -> None:
    colours = np.stack([levels(4095)] * 3, axis=-1)
    (tmp_path / "x.ppm").write_bytes(netpbm(b"P6", colours, 65535))
    with pytest.raises(ImageError, match="its colours have 16 bits"):
        seen(tmp_path / "x.ppm")


def packed(bits: int, order: str) -> bytes:
    """A TIFF file of grey values that lie one after another, not at the beginning of bytes."""
    rows = []
    for row in levels(2**bits - 1):
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    content, blank = b"".join(rows), np.zeros((32, 32, 1), np.uint8)
    tags = {Base.BitsPerSample: bits, Base.StripByteCounts: len(content)}
    file = tiff(blank, order, tags)
    (start,) = struct.unpack(f"{order}I", file[4:8])
    start += len(content) - blank.size
    return file[:4] + struct.pack(f"{order}I", start) + content + file[8 + blank.size :]


def test_twelve_packed_bits_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(packed(12, "<"))
    assert np.array_equal(seen(tmp_path / "x.tif"), EIGHT)


@pytest.mark.parametrize(("bits", "order"), [(10, "<"), (10, ">"), (12, ">"), (14, "<")])
def test_other_packed_bits_are_named(tmp_path: Path, bits: int, order: str) -> None:
    (tmp_path / "x.tif").write_bytes(packed(bits, order))
    with pytest.raises(ImageError, match=rf"TIFF with {bits} bits in each value; save it as PNG"):
        seen(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("kind", "form", "reason"),
    [
        (np.int16, 2, "signed numbers"),
        (np.int32, 2, "32-bit integers"),
        (np.float32, 3, "32-bit floating-point"),
        (np.float64, 3, "64 bits"),
        (np.float16, 3, "of a kind that cannot be read"),
    ],
)
def test_measurements_in_tiff_are_refused_with_the_reason(
    tmp_path: Path, kind: type, form: int, reason: str
) -> None:
    pixels = (RAMP * 1000).astype(kind)[..., None]
    (tmp_path / "x.tif").write_bytes(tiff(pixels, tags={Base.SampleFormat: form}))
    with pytest.raises(ImageError, match=reason):
        seen(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_jpeg_2000_is_read(tmp_path: Path, kind: type) -> None:
    Image.fromarray(levels(255 if kind is np.uint8 else 4095)).save(tmp_path / "x.jp2")
    assert abs(seen(tmp_path / "x.jp2") - EIGHT).max() <= 2


def test_first_of_two_views_of_a_stereo_camera_is_read(tmp_path: Path) -> None:
    picture = Image.fromarray(EIGHT)
    picture.save(tmp_path / "x.mpo", save_all=True, append_images=[picture.rotate(90)])
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.mpo").read_bytes())
    assert abs(seen(tmp_path / "x.jpg") - EIGHT).max() <= 8


def bitmap(bits: int, masks: bytes, pixels: np.ndarray) -> bytes:
    """A BMP file, upside up, with masks of its colours or without."""
    size = 40 + (68 if masks else 0)
    head = struct.pack("<IiiHHIIiiII", size, 32, -32, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0)
    start = 14 + size
    rest = masks + bytes(68 - len(masks)) if masks else b""
    whole = struct.pack("<IHHI", start + pixels.nbytes, 0, 0, start)
    return b"BM" + whole + head + rest + pixels.tobytes()


def test_bitmap_with_an_unused_fourth_byte_is_not_transparent(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., :3] = EIGHT[..., None]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    for name, given in (("plain.bmp", b""), ("masks.bmp", masks)):
        (tmp_path / name).write_bytes(bitmap(32, given, pixels))
        assert np.array_equal(seen(tmp_path / name)[..., 0], EIGHT), name
    # Where it is used, it is.
    pixels[:16, :, 3] = 255
    (tmp_path / "half.bmp").write_bytes(bitmap(32, masks, pixels))
    assert np.array_equal(seen(tmp_path / "half.bmp")[:16, :, 0], EIGHT[:16])
    assert seen(tmp_path / "half.bmp")[16:].max() == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty, damaged, or not one of PNG, JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC; save it as PNG"),
        (b"<!DOCTYPE html><html></html>", "perhaps of a failed download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run 'git lfs pull'"),
        (b"8BPS\0\1", "Photoshop"),
        (b"II*\0", "it is damaged, or TIFF"),
        (b"\x89PNG\r\n\x1a\n", "it is damaged, or PNG"),
        (b"no picture", "it is empty, damaged, or not one of PNG, JPEG"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "x.png")
