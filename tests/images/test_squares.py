"""Pictures that are not square: cropped, stretched or padded, and where they are then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from sia_gen.config.data import NonSquare
from sia_gen.errors import ImageError
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import (
    ImageSpec,
    load_area,
    load_image,
    load_with_area,
    pixel_aspect_ratio,
)
from sia_gen.images.squares import Area, area_of, enlarged, looked_at, to_square

ORIENTATION = 0x0112
ROTATE_90_TO_SHOW = 6
RNG = np.random.default_rng(0)


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, *channels), np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("size", "area"),
    [
        ((64, 64), (0, 64, 0, 64)),
        ((400, 300), (8, 56, 0, 64)),
        ((300, 400), (0, 64, 8, 56)),
        # 64 / 5 = 12.8 rows, and 51 others.
        ((2000, 400), (25, 38, 0, 64)),
        ((16, 12), (8, 56, 0, 64)),
        ((5000, 1), (31, 32, 0, 64)),
    ],
)
def test_area_is_centred_and_has_the_shape_of_the_picture(
    size: tuple[int, int], area: tuple[int, ...]
) -> None:
    assert Area.within(64, size) == area


def test_area_is_cut_out_of_arrays_and_tensors() -> None:
    area, pixels = Area(1, 3, 0, 4), noise(4, 4)
    assert np.array_equal(area.cut(pixels), pixels[1:3])
    assert np.array_equal(area.cut(torch.from_numpy(pixels)[None])[0], pixels[1:3])
    assert np.array_equal(Area.whole(4).cut(pixels), pixels)


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (100, 20)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_padded_picture_is_whole_between_its_mean_colour(
    tmp_path: Path, size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    picture = Image.fromarray(noise(size[1], size[0], *channels))
    area = Area.within(32, size)
    square = np.asarray(to_square(picture, tmp_path, 32, "pad")).astype(np.float64)
    fitted = picture.resize((area.right - area.left, area.bottom - area.top), Image.BICUBIC)
    inside = square[area.top : area.bottom, area.left : area.right]
    assert np.array_equal(inside, np.asarray(fitted))
    edges = inside[[0, -1]] if size[0] > size[1] else inside[:, [0, -1]]
    outside = np.ones((32, 32), bool)
    outside[area.top : area.bottom, area.left : area.right] = False
    assert outside.sum() == 32 * 32 - inside.shape[0] * inside.shape[1]
    assert np.abs(square[outside] - edges.mean(axis=(0, 1))).max() <= 0.5


def test_square_picture_needs_no_padding(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", noise(16, 16))
    spec = ImageSpec("L", 16, "pad")
    assert np.array_equal(load_image(path, spec), load_image(path, ImageSpec("L", 16)))
    assert load_area(path, spec) == Area.whole(16)


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("turned", [False, True])
def test_area_is_that_of_the_upright_picture(tmp_path: Path, extension: str, turned: bool) -> None:
    exif = Image.Exif()
    if turned:
        exif[ORIENTATION] = ROTATE_90_TO_SHOW
    path = tmp_path / f"x.{extension}"
    Image.fromarray(noise(16, 32)).save(path, exif=exif)
    spec = ImageSpec("L", 32, "pad")
    area = Area(0, 32, 8, 24) if turned else Area(8, 24, 0, 32)
    assert load_area(path, spec) == load_with_area(path, spec)[1] == area


@pytest.mark.parametrize("rule", ["crop", "stretch"])
def test_image_without_padding_is_its_own_area(tmp_path: Path, rule: str) -> None:
    path = save(tmp_path / "x.png", noise(10, 30))
    spec = ImageSpec("L", 16, rule)
    assert load_area(path, spec) == load_with_area(path, spec)[1] == Area.whole(16)


def test_padding_of_a_mask_is_normal_whatever_its_border_is(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", noise(15, 60))
    mask = save(tmp_path / "mask.png", np.full((15, 60), 255, np.uint8))
    loaded = load_mask(TestImage(path, "x", "cut", mask), ImageSpec("L", 32, "pad"))
    expected = np.zeros((32, 32), bool)
    expected[12:20] = True
    assert np.array_equal(loaded, expected)


def test_mask_lies_where_the_picture_does(tmp_path: Path) -> None:
    """As if it was cut out of a square picture with black above and below."""
    marked = np.zeros((16, 64), np.uint8)
    marked[4:8, 30:50] = 255
    path = save(tmp_path / "x.png", noise(16, 64))
    image = TestImage(path, "x", "cut", save(tmp_path / "mask.png", marked))
    alone = np.zeros((64, 64), np.uint8)
    alone[24:40] = marked
    square = TestImage(
        save(tmp_path / "square.png", noise(64, 64)), "x", "cut", save(tmp_path / "m.png", alone)
    )
    found = load_mask(image, ImageSpec("L", 32, "pad"))
    assert np.array_equal(found, load_mask(square, ImageSpec("L", 32)))
    assert found.sum() == 20


def test_without_a_rule_a_picture_has_to_be_square(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(10, 20))
    with pytest.raises(ImageError, match=r"20 x 10 pixels, not square\. .*'stretch', 'pad' or"):
        to_square(picture, tmp_path / "x.png", 16, None)


@pytest.mark.parametrize("rule", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [(60, 100), (99, 40), (64, 64)])
def test_maps_return_to_the_places_of_the_picture(rule: NonSquare, size: tuple[int, int]) -> None:
    """What a picture shows at a place, its square shows too, and the map puts back there."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    spot = np.hypot(x - width / 2 - 3, y - height / 2 + 5) < 6
    picture = Image.fromarray(np.where(spot, 255, 0).astype(np.uint8))
    square = np.asarray(to_square(picture, "x", 256, rule)).astype(np.float32) / 255
    inside, seen = area_of(size, 256, rule), looked_at(size, rule)
    back = enlarged(np.ascontiguousarray(inside.cut(square)), seen, size)
    assert back.shape == (height, width)
    assert np.isnan(back).sum() == width * height - (seen.bottom - seen.top) * (
        seen.right - seen.left
    )
    if rule == "crop":
        assert np.isnan(back).any() == (width != height)
        # A crop of an odd number of pixels begins in the middle of one.
        tolerance = 0.12
    else:
        assert not np.isnan(back).any()
        tolerance = 0.02
    assert (np.abs(np.nan_to_num(back) - spot) > 0.5).sum() <= tolerance * spot.sum()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_pixel_aspect_ratio_is_that_of_the_upright_region_of_interest(
    ending: str, tmp_path: Path
) -> None:
    path, turned = tmp_path / f"x.{ending}", Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("L", (50, 20)).save(path, exif=turned)
    assert pixel_aspect_ratio(path, ImageSpec("L", 16, "stretch")) == 20 / 50
    assert pixel_aspect_ratio(path, ImageSpec("L", 16, "stretch", roi=(0, 0, 10, 40))) == 10 / 40
    for rule in ("pad", "crop"):
        assert pixel_aspect_ratio(path, ImageSpec("L", 16, rule)) == 1
