"""Kinds of image files: depth, palette, transparency, colour space, rotation and frames."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, load_image, load_images
from sia_gen.images.opening import read_image, to_eight_bits, upright_size

ORIENTATION = 0x0112
# How each EXIF orientation turns an upright array into the stored one, by the EXIF standard.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def grey(path: Path) -> np.ndarray:
    return load_image(path, ImageSpec("L", 8))[0]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    assert np.array_equal(grey(path), RAMP)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=64))
def test_sixteen_bits_are_rounded_to_the_nearest_of_eight(values: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.uint16))
    expected = np.floor(np.array([values]) * (255 / 65535) + 0.5)
    assert np.array_equal(np.asarray(to_eight_bits(image)), expected)


@given(st.integers(1, 65535), st.lists(st.integers(0, 65535), min_size=1, max_size=64))
def test_sixteen_bits_are_scaled_to_white_and_clipped_there(white: int, values: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.uint16))
    scaled = np.minimum(np.array([values], np.float64), white) * 255 / white
    assert np.array_equal(np.asarray(to_eight_bits(image, white)), np.floor(scaled + 0.5))


def test_sixteen_bits_in_either_byte_order_are_the_same(tmp_path: Path) -> None:
    pixels = RAMP.astype(np.uint16) * 257
    Image.frombytes("I;16B", (8, 8), pixels.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    with Image.open(tmp_path / "big.tif") as image:
        assert image.mode == "I;16B"
    assert np.array_equal(grey(tmp_path / "big.tif"), RAMP)


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float32, "32-bit floating-point"), (np.int32, "32-bit integer")]
)
def test_pixels_of_unknown_range_are_an_error(tmp_path: Path, dtype: type, kind: str) -> None:
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=rf"x\.tif: its pixels are {kind}.*8 or 16"):
        load_image(tmp_path / "x.tif", ImageSpec("L", 8))


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "x.png")
    assert load_image(tmp_path / "x.png", ImageSpec("RGB", 8))[:, 0, 0].tolist() == [10, 200, 30]


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "x.png")
    assert np.array_equal(grey(tmp_path / "x.png"), np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize(("mode", "colour"), [("LA", (200, 255)), ("RGBA", (200, 200, 200, 255))])
def test_opaque_pixels_keep_their_colour(tmp_path: Path, mode: str, colour: tuple) -> None:
    Image.new(mode, (8, 8), colour).save(tmp_path / "x.png")
    assert np.unique(grey(tmp_path / "x.png")) == 200


@pytest.mark.parametrize(("mode", "colour"), [("LA", (200,)), ("RGBA", (200, 200, 200))])
@pytest.mark.parametrize(("alpha", "shown"), [(0, 0), (51, 40), (255, 200)])
def test_transparent_pixels_lie_on_black(
    tmp_path: Path, mode: str, colour: tuple, alpha: int, shown: int
) -> None:
    Image.new(mode, (8, 8), (*colour, alpha)).save(tmp_path / "x.png")
    assert np.unique(grey(tmp_path / "x.png")) == shown


def test_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([250, 250, 250, 100, 100, 100])
    image.paste(1, (0, 0, 8, 4))
    image.save(tmp_path / "x.png", transparency=0)
    loaded = grey(tmp_path / "x.png")
    assert np.unique(loaded[:4]) == 100
    assert np.unique(loaded[4:]) == 0


def test_cmyk_is_ink_on_paper(tmp_path: Path) -> None:
    for extension in ("tif", "jpg"):
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / f"x.{extension}", quality=100)
        loaded = load_image(tmp_path / f"x.{extension}", ImageSpec("RGB", 8))
        red, green, blue = loaded[:, 0, 0].astype(int)
        assert (red > 250, green < 5, blue < 5) == (True, True, True)


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("bits", [8, 16])
def test_every_rotation_in_exif_is_undone(tmp_path: Path, orientation: int, bits: int) -> None:
    pixels = RAMP if bits == 8 else RAMP.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](pixels))
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(grey(tmp_path / "x.png"), RAMP)


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_plain_tiff_is_turned_too(tmp_path: Path, orientation: int, depth: type) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = RAMP[:4].astype(depth) * (257 if depth is np.uint16 else 1)
    stored = np.ascontiguousarray(STORED[orientation](pixels))
    Image.fromarray(stored).save(tmp_path / "x.tif", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "x.tif")), RAMP[:4])


@pytest.mark.parametrize("extension", ["tif", "png", "webp"])
def test_first_of_several_frames_is_read(tmp_path: Path, extension: str) -> None:
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (200, 10, 60)]
    path = tmp_path / f"x.{extension}"
    options = {"lossless": True} if extension == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert np.unique(grey(path)) == 200


def test_images_of_mixed_kinds_and_sizes_are_stacked(tmp_path: Path) -> None:
    modes = {"a.png": "1", "b.png": "L", "c.png": "I;16", "d.jpg": "CMYK", "e.png": "RGBA"}
    paths = [tmp_path / name for name in (*modes, "f.png", "g.tif")]
    for number, (path, mode) in enumerate(zip(paths, [*modes.values(), "P", "LA"], strict=True)):
        Image.new(mode, (8 + number, 20 - number)).save(path)
    for mode, channels in (("L", 1), ("RGB", 3)):
        images = load_images(paths, ImageSpec(mode, 8, "crop"))
        assert (images.shape, images.dtype) == ((7, channels, 8, 8), np.uint8)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"qoif"])
def test_formats_that_are_not_listed_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match="or not one of PNG, JPEG, TIFF, BMP, WEBP, GIF"):
        grey(tmp_path / "x.png")


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"x\.png: it is not a file"):
        grey(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", list(STORED))
def test_size_is_that_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](RAMP[:4]))
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    assert upright_size(tmp_path / "x.png") == (8, 4)
    assert read_image(tmp_path / "x.png").size == (8, 4)


def test_image_just_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)
    with pytest.raises(ImageError, match=r"decompression bomb.* --tile cuts into tiles"):
        grey(tmp_path / "x.png")
