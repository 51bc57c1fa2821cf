"""Photographs that are read strip by strip have the pixels of those that are decoded as a whole."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from sia_gen.config.data import Tile
from sia_gen.errors import ImageError
from sia_gen.images import strips
from sia_gen.images.counted import load_scored
from sia_gen.images.loading import ImageSpec
from sia_gen.images.opening import open_image, upright_size
from sia_gen.images.strips import Strips, brightness_of, is_large, open_scored

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (75, 53), np.uint8)
COLOURS = RNG.integers(0, 256, (75, 53, 3), np.uint8)
DEEP = RNG.integers(0, 4096, (75, 53), np.uint16)
TILE = Tile(size=32, overlap=8)


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs of the tests are large, and have several strips."""
    monkeypatch.setattr(strips, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(strips, "ROWS", 16)


def pillow(pixels: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        image = Image.fromarray(pixels)
        (image if mode is None else image.convert(mode)).save(path, **options)

    return save


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def binary(header: bytes, pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(header + pixels.tobytes()) and None  # type: ignore[func-returns-value]


def bmp_from_the_top(path: Path) -> None:
    pillow(COLOURS)(path)
    content = bytearray(path.read_bytes())
    content[22:26] = (-75).to_bytes(4, "little", signed=True)
    path.write_bytes(content)


def transparent_bmp(path: Path) -> None:
    pixels = np.dstack([COLOURS, GREY])[::-1, :, [2, 1, 0, 3]]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 56, 53, 75, 1, 32, 3, 0, 0, 0, 0, 0, *masks)
    path.write_bytes(struct.pack("<2sIII", b"BM", 0, 0, 70) + header + pixels.tobytes())


def late_offset(path: Path) -> None:
    pillow(GREY)(path)
    content = path.read_bytes()
    start = int.from_bytes(content[10:14], "little")
    header = content[:10] + (9000).to_bytes(4, "little") + content[14:start]
    path.write_bytes(header.ljust(9000, b"\0") + content[start:])


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return len(data).to_bytes(4, "big") + name + data + checksum.to_bytes(4, "big")


def png_with(place: int, name: bytes, data: bytes) -> Callable[[Path], None]:
    """A PNG file with another chunk at a place in it, which its end counts down to."""

    def save(path: Path) -> None:
        pillow(GREY)(path)
        content = path.read_bytes()
        here = place % (len(content) + 1)
        path.write_bytes(content[:here] + chunk(name, data) + content[here:])

    return save


def overlapping_tiles(path: Path) -> None:
    """A TIFF file whose tiles are all the same bytes."""
    entries = [(256, 53), (257, 75), (258, 8), (259, 1), (262, 1), (277, 1), (322, 16), (323, 16)]
    lists = [(324, [210 + 160] * 20), (325, [256] * 20)]
    content = struct.pack("<2sHIH", b"II", 42, 8, 10)
    content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    for number, (tag, values) in enumerate(lists):
        content += struct.pack("<HHII", tag, 4, len(values), 210 + 80 * number)
    lists_as_bytes = b"".join(struct.pack("<20I", *values) for _, values in lists)
    path.write_bytes(content.ljust(210, b"\0") + lists_as_bytes + GREY.tobytes()[:256])


EXIF = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0%c\0\0\0\0\0\0"
IN_STRIPS: dict[str, Callable[[Path], None]] = {
    "strips.tif": tiff(GREY, rowsperstrip=7),
    "one-strip.tif": tiff(GREY, rowsperstrip=75),
    "colours.tif": tiff(COLOURS, rowsperstrip=20, photometric="rgb"),
    "big-endian.tif": tiff(DEEP, byteorder=">", rowsperstrip=9),
    "big.tif": tiff(DEEP, bigtiff=True, tile=(16, 32)),
    "tiles.tif": tiff(COLOURS, tile=(16, 16), photometric="rgb"),
    "deflated-tiles.tif": tiff(GREY, tile=(32, 16), compression="zlib", predictor=True),
    "white-is-zero.tif": tiff(GREY, rowsperstrip=7, photometric="miniswhite"),
    "lzw.tif": pillow(COLOURS, compression="tiff_lzw", strip_size=53 * 3 * 10),
    "jpeg.tif": pillow(COLOURS, compression="jpeg", strip_size=53 * 3 * 16, quality=90),
    "packbits.tif": pillow(GREY, compression="packbits", strip_size=53 * 5),
    "bits.tif": pillow(GREY, "1"),
    "palette.tif": pillow(GREY, "P"),
    "transparent.tif": pillow(COLOURS, "RGBA"),
    "grey.bmp": pillow(GREY),
    "colours.bmp": pillow(COLOURS),
    "from-the-top.bmp": bmp_from_the_top,
    "bits.bmp": pillow(GREY, "1"),
    "grey.pgm": pillow(GREY),
    "colours.ppm": pillow(COLOURS),
    "bits.pbm": pillow(GREY, "1"),
    "deep.pgm": binary(b"P5 # a camera\n53 75\n65535\n", DEEP.astype(">u2")),
    "twelve-bits.pgm": binary(b"P5\n# 12 bits\n53 75 4095\n", DEEP.astype(">u2")),
    "grey.png": pillow(GREY),
    "colours.png": pillow(COLOURS),
    "deep.png": pillow(DEEP),
    "palette.png": pillow(COLOURS, "P"),
    "both.png": pillow(GREY, "LA"),
    "transparent.png": pillow(COLOURS, "RGBA"),
    "stored.png": pillow(COLOURS, compress_level=0),
    "one-is-transparent.png": pillow(GREY, transparency=40),
    # As ImageMagick writes it.
    "late-text.png": png_with(-13, b"tEXt", b"date:modify\x002026-12-01"),
    "more-after-the-end.png": png_with(-1, b"eXIf", EXIF % 6),
}
AS_A_WHOLE: dict[str, Callable[[Path], None]] = {
    "photograph.jpg": pillow(COLOURS),
    "planes.tif": tiff(COLOURS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "high-strip.tif": pillow(GREY, compression="tiff_lzw", strip_size=1 << 20),
    "turned.tif": pillow(GREY, tiffinfo={274: 6}),
    "transparent.bmp": transparent_bmp,
    "bits.png": pillow(GREY, "1"),
    "text.pgm": lambda path: (
        path.write_text("P2 53 75 255\n" + " ".join(map(str, GREY.ravel())), "ascii") and None
    ),
    "comment-in-a-number.pgm": binary(b"P5\n53 7#x\n5\n255\n", GREY),
    "late-offset.bmp": late_offset,
    "late-orientation.png": png_with(-13, b"eXIf", EXIF % 1),
    "text-first.png": png_with(8, b"tEXt", b"a\0b"),
    "overlapping-tiles.tif": overlapping_tiles,
    "lossless.webp": pillow(COLOURS, lossless=True),
}


def spec_of(mode: Any = "RGB", **options: Any) -> ImageSpec:
    return ImageSpec(mode, 32, white=options.pop("white", None), tile=TILE, **options)


def read_in_order(photograph: Strips, height: int) -> np.ndarray:
    """Reads as tiles do: some rows, then further ones that overlap with these."""
    rows = [photograph.rows(top, min(top + 24, height)) for top in range(0, height, 16)]
    return np.concatenate([one[:, :16] for one in rows], axis=1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", [*IN_STRIPS, *AS_A_WHOLE])
def test_strips_are_the_rows_of_the_photograph(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / name
    (IN_STRIPS | AS_A_WHOLE)[name](path)
    spec = spec_of(mode)
    assert is_large(path, spec)
    expected = load_scored(path, spec)
    photograph, scope = open_scored(path, spec)
    assert isinstance(photograph, Strips)
    assert photograph.shape == expected[0].shape
    assert scope == expected[1]
    assert np.array_equal(read_in_order(photograph, len(expected[0][0])), expected[0])
    assert brightness_of(photograph) == brightness_of(expected[0])


@pytest.mark.parametrize("name", [*IN_STRIPS, *AS_A_WHOLE])
def test_which_files_are_not_decoded_as_a_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (IN_STRIPS | AS_A_WHOLE)[name](path)
    with open_image(path, "image", large=True) as file:
        parts = strips._open_strips(file)
        sizes = [part.size for part, _ in parts or ()]
    assert (parts is not None) == (name in IN_STRIPS)
    assert all(width == 53 for width, _ in sizes)
    assert len(sizes) > 2 or name in AS_A_WHOLE


def test_white_of_a_camera(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    IN_STRIPS["big-endian.tif"](path)
    spec = spec_of("L", white=4095)
    photograph, _ = open_scored(path, spec)
    assert isinstance(photograph, Strips)
    assert np.array_equal(photograph.rows(0, 75), load_scored(path, spec)[0])


@pytest.mark.parametrize("roi", [None, (3, 5, 50, 70), (0, 33, 53, 75), (3, 0, 30, 75)])
@pytest.mark.parametrize("scale", [None, 0.9, 0.7])
def test_regions_and_scales(tmp_path: Path, roi: Any, scale: float | None) -> None:
    path = tmp_path / "colours.png"
    IN_STRIPS["colours.png"](path)
    spec = ImageSpec("RGB", 16, tile=Tile(size=16, overlap=4, scale=scale), roi=roi)
    expected, scope = load_scored(path, spec)
    photograph, found = open_scored(path, spec)
    assert found == scope
    if isinstance(photograph, Strips):
        assert scale is None
        photograph = photograph.rows(0, photograph.shape[1])
    assert np.array_equal(photograph, expected)


def test_photographs_that_are_not_large_are_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    pillow(GREY[:32, :31])(path)
    assert not is_large(path, spec_of())
    assert not is_large(path, ImageSpec("L", 32, "stretch"))


def test_a_mask_of_what_to_ignore_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    pillow(GREY)(path)
    pillow(np.uint8(GREY > 200) * 255)(tmp_path / "mask.png")
    photograph, scope = open_scored(path, spec_of(ignore=str(tmp_path / "mask.png")))
    assert isinstance(photograph, np.ndarray)
    assert scope.counted is not None


@pytest.mark.parametrize("name", ["strips.tif", "lzw.tif", "grey.bmp", "grey.pgm", "grey.png"])
def test_files_that_are_cut_off_are_refused_where_they_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    IN_STRIPS[name](path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageError, match=f"cannot read the image .*{name}"):
        read_in_order(*_opened(path))


def _opened(path: Path) -> tuple[Strips, int]:
    photograph, _ = open_scored(path, spec_of("L"))
    assert isinstance(photograph, Strips)
    return photograph, photograph.shape[1]


@pytest.mark.parametrize("shape", [(40, 53), (150, 53), (75, 40), (75, 106)])
@pytest.mark.parametrize("extension", ["png", "tif", "jpg"])
def test_files_that_become_others_are_refused(
    tmp_path: Path, extension: str, shape: tuple[int, int]
) -> None:
    path = tmp_path / f"scan.{extension}"
    pillow(GREY)(path)
    opened = _opened(path)
    pillow(np.resize(GREY, shape))(path)
    with pytest.raises(ImageError, match="it has changed since it was opened"):
        read_in_order(*opened)


def test_headers_alone_take_no_memory(tmp_path: Path) -> None:
    """A file of no pixels that claims to have hundreds of thousands of rows."""
    rows = 400_000
    tags = [(256, 64), (257, rows), (258, 1), (259, 1), (262, 1), (273, 8), (277, 1), (278, rows)]
    directory = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    (tmp_path / "tall.tif").write_bytes(directory + bytes(4))
    photograph, _ = _opened(tmp_path / "tall.tif")
    tracemalloc.start()
    with pytest.raises(ImageError, match="truncated"):
        photograph.rows(0, 1)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("tag", [278, 279, 273, 258, 277])
@pytest.mark.parametrize("value", [0, 1, 65_000])
def test_damaged_headers_are_read_as_pillow_does(tmp_path: Path, tag: int, value: int) -> None:
    path = tmp_path / "strips.tif"
    IN_STRIPS["strips.tif"](path)
    content = bytearray(path.read_bytes())
    # A directory's entry: a tag, its type (16 or 32 bits), a count, and the value or its place.
    (entry,) = [m.start() for m in re.finditer(struct.pack("<H", tag) + rb"[\3\4]\0", content)][:1]
    struct.pack_into("<I", content, entry + 8, value)
    path.write_bytes(content)
    expected = found = None
    with suppress(ImageError):
        expected = load_scored(path, spec_of("L"))[0]
    with suppress(ImageError):
        found = read_in_order(*_opened(path))
    assert (found is None) == (expected is None)
    assert np.array_equal(found, expected) if found is not None else True


def test_tags_of_unknown_types_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "strips.tif"
    IN_STRIPS["strips.tif"](path)
    tag = struct.pack("<HH", 262, 3)
    path.write_bytes(path.read_bytes().replace(tag, struct.pack("<HH", 262, 999)))
    found = read_in_order(*_opened(path))
    assert np.array_equal(found, load_scored(path, spec_of("L"))[0])


@pytest.mark.parametrize("late", [False, True])
def test_png_files_that_are_rotated(tmp_path: Path, late: bool) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[274] = 6
    pillow(GREY, exif=exif)(path)
    if late:
        content = path.read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert upright_size(path) == (75, 53)
    photograph, height = _opened(path)
    assert np.array_equal(read_in_order(photograph, height)[0], np.rot90(GREY, -1))


def test_sizes_are_known_without_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grey.png"
    pillow(GREY)(path)
    monkeypatch.delattr(PngImagePlugin.PngImageFile, "load_read")
    assert upright_size(path) == (53, 75)
