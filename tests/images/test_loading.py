"""Loading images as square arrays of one mode and size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, load_image, load_images

ORIENTATION = 0x0112
ROTATE_90_TO_SHOW = 6


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def colour(tmp_path: Path) -> Path:
    """A pure red square."""
    return save(tmp_path / "red.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """16 x 8 pixels: black left and right quarters, white centre."""
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, 4:12] = 255
    return save(tmp_path / "wide.png", pixels)


def test_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    loaded = load_image(save(tmp_path / "x.png", pixels), ImageSpec("RGB", 8))
    assert loaded.dtype == np.uint8
    assert np.array_equal(loaded, pixels.transpose(2, 0, 1))


def test_colour_is_read_as_luminance(colour: Path) -> None:
    loaded = load_image(colour, ImageSpec("L", 8))
    assert loaded.shape == (1, 8, 8)
    assert np.unique(loaded) == round(0.299 * 255)


def test_grey_is_read_as_three_equal_channels(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    loaded = load_image(save(tmp_path / "x.png", pixels), ImageSpec("RGB", 8))
    assert np.array_equal(loaded, np.stack([pixels] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("wanted", ["L", "RGB"])
def test_every_mode_of_file_is_accepted(
    tmp_path: Path, mode: str, wanted: Literal["L", "RGB"]
) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (8, 8)).save(path)
    assert load_image(path, ImageSpec(wanted, 8)).shape == (len(wanted), 8, 8)


def test_resizing_averages_instead_of_dropping_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    loaded = load_image(save(tmp_path / "x.png", stripes), ImageSpec("L", 8))
    assert np.abs(loaded.astype(int) - 127).max() < 20


def test_rotation_in_exif_is_applied(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 4, 8))
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATE_90_TO_SHOW
    image.save(tmp_path / "x.png", exif=exif)
    loaded = load_image(tmp_path / "x.png", ImageSpec("L", 8))[0]
    assert loaded[:4].min() == 255
    assert loaded[4:].max() == 0


def test_image_that_is_not_square_needs_a_rule(wide: Path) -> None:
    with pytest.raises(ImageError, match=r"wide\.png is 16 x 8 pixels, not square\. .*non_square"):
        load_image(wide, ImageSpec("L", 8))


def test_crop_keeps_the_centre(wide: Path) -> None:
    assert load_image(wide, ImageSpec("L", 8, "crop")).min() == 255


def test_stretch_keeps_the_whole_image(wide: Path) -> None:
    row = load_image(wide, ImageSpec("L", 8, "stretch"))[0, 0]
    assert row[0] < 30
    assert row[-1] < 30
    assert row[3:5].min() > 225


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("keep", [0, 10, 60, 0.5, 0.99])
@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp", "jp2", "ppm"])
def test_truncated_file_is_named_in_one_line(tmp_path: Path, extension: str, keep: float) -> None:
    path = tmp_path / f"cut.{extension}"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    content = save(path, pixels).read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ImageError, match=r"cannot read the image .*cut\.") as caught:
        load_image(path, ImageSpec("RGB", 32))
    assert "\n" not in str(caught.value)


def test_any_damaged_byte_gives_an_image_or_an_image_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert load_image(path, ImageSpec("L", 8, "crop")).shape == (1, 8, 8)
        except ImageError:
            refused += 1
    assert refused > len(content) / 2


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot read the image"):
        load_image(tmp_path / name, ImageSpec("L", 8))


def test_text_with_the_name_of_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("not an image")
    with pytest.raises(ImageError, match="it is empty, damaged, or not one of PNG"):
        load_image(tmp_path / "x.jpg", ImageSpec("L", 8))


def test_gigantic_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="decompression bomb"):
        load_image(path, ImageSpec("L", 8))


def test_images_are_stacked_in_order(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"{level}.png", np.full((4, 4), level, np.uint8)) for level in (3, 1, 2)
    ]
    images = load_images(paths, ImageSpec("L", 4))
    assert images.shape == (3, 1, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [3, 1, 2]
