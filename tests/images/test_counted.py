"""What a recipe ignores in photographs never counts, nor what is outside a region of interest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from sia_gen.config.data import Data, Foreground, Tile
from sia_gen.errors import ImageError
from sia_gen.images import store
from sia_gen.images.by_number import Tiles
from sia_gen.images.counted import (
    at_scale,
    check_scopes,
    load_counted,
    load_scored,
    load_visible,
)
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.squares import Area
from sia_gen.images.store import open_foregrounds, open_images

LAYOUT = {"images": {"layout": "folder", "normal": "good/*"}}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Noise of 60 x 40, with a black stripe that is to be ignored."""
    pixels = np.random.default_rng(0).integers(50, 250, (40, 60), np.uint8)
    pixels[:, 30:35] = 0
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(np.uint8(pixels == 0) * 255).save(tmp_path / "ignored.png")
    return tmp_path / "photo.png"


def spec_of(photo: Path, mask: str = "ignored.png", **options: object) -> ImageSpec:
    options = {"tile": Tile(size=32, overlap=8)} | options
    return ImageSpec("L", 32, ignore=str(photo.with_name(mask)), **options)  # type: ignore[arg-type]


def test_ignored_pixels_have_the_mean_of_the_others(photo: Path) -> None:
    image, (area, counted) = load_scored(photo, spec_of(photo))
    assert area == Area(0, 40, 0, 60)
    assert counted is not None
    pixels = np.asarray(Image.open(photo))
    assert np.array_equal(counted, pixels > 0)
    assert np.array_equal(image[0][counted], pixels[counted])
    assert (image[0][~counted] == np.rint(pixels[counted].mean())).all()


def test_pixels_at_a_smaller_scale_count_if_all_of_theirs_do(photo: Path) -> None:
    counted = load_counted(photo, spec_of(photo))
    assert counted is not None
    small = at_scale(counted, (20, 30))
    columns = np.flatnonzero(~small[0])
    assert columns.tolist() == [15, 16, 17]
    assert (small == small[0]).all()


def test_no_single_pixel_is_lost_at_a_small_scale(tmp_path: Path) -> None:
    counted = np.ones((1024, 1024), bool)
    counted[100, 200] = False
    assert np.argwhere(~at_scale(counted, (32, 32))).tolist() == [[3, 6]]
    Image.new("L", (1024, 1024), 9).save(tmp_path / "photo.png")
    Image.fromarray(~counted).save(tmp_path / "ignored.png")
    _, (_, seen) = load_scored(tmp_path / "photo.png", square_of(tmp_path / "photo.png", None))
    assert seen is not None
    assert np.argwhere(~seen).tolist() == [[1, 3]]


def test_each_image_may_have_a_mask_of_its_own(photo: Path) -> None:
    own = spec_of(photo, "{stem}-ignored.png")
    assert load_counted(photo, own) is None
    assert load_scored(photo, own)[1] == (Area(0, 40, 0, 60), None)
    Image.open(photo.with_name("ignored.png")).save(photo.with_name("photo-ignored.png"))
    counted = load_counted(photo, own)
    assert counted is not None
    assert counted.mean() == pytest.approx(55 / 60)


def test_masks_that_cannot_be_used_are_refused(photo: Path) -> None:
    with pytest.raises(ImageError, match="there is no mask"):
        load_scored(photo, spec_of(photo, "missing.png"))
    Image.new("1", (60, 41)).save(photo.with_name("other.png"))
    with pytest.raises(ImageError, match="is 60 x 41 pixels, its image 60 x 40"):
        load_scored(photo, spec_of(photo, "other.png"))
    Image.new("1", (60, 40), 1).save(photo.with_name("white.png"))
    for options in ({}, {"roi": (0, 0, 40, 40)}):
        with pytest.raises(ImageError, match=r"white\.png ignores all of .*photo\.png"):
            load_scored(photo, spec_of(photo, "white.png", **options))


def test_pixels_count_in_metrics_if_a_reduced_map_shows_them_alone(photo: Path) -> None:
    for scale in (0.8, 0.9):
        spec = spec_of(photo, tile=Tile(size=32, overlap=8, scale=scale))
        _, (_, small) = load_scored(photo, spec)
        assert small is not None
        shown = interpolate(torch.from_numpy(small)[None, None].float(), (40, 60), mode="bilinear")
        counted = load_counted(photo, spec)
        assert counted is not None
        assert shown.numpy()[0, 0][counted].min() > 0.999
        assert 0.8 < counted.mean() < 55 / 60


def test_masks_that_leave_nothing_at_the_size_of_a_model_are_refused(photo: Path) -> None:
    thin = np.full((40, 60), 255, np.uint8)
    thin[20] = 0
    Image.fromarray(thin).save(photo.with_name("ignored.png"))
    for spec in (
        spec_of(photo, tile=Tile(size=16, overlap=4, scale=0.5)),
        square_of(photo, "stretch"),
    ):
        with pytest.raises(ImageError, match=r"ignored in .*photo.png leaves nothing at the size"):
            load_scored(photo, spec)


def test_regions_and_masks_are_checked_without_pixels(photo: Path, capfd: Any) -> None:
    sizes = {photo: (60, 40), photo.with_name("other.png"): (61, 40)}
    message = r"other\.png: the mask .*ignored\.png is 60 x 40 pixels, its image 61 x 40"
    with pytest.raises(ImageError, match=message):
        check_scopes(sizes, spec_of(photo))
    with pytest.raises(
        ImageError, match=r"photo\.png is 60 x 40 pixels, but the region of interest"
    ):
        check_scopes(sizes, ImageSpec("L", 32, roi=(0, 0, 61, 40)))
    with pytest.raises(ImageError, match="there is no mask"):
        check_scopes(sizes, spec_of(photo, "missing.png"))
    check_scopes({photo: (60, 40)}, spec_of(photo))
    assert not capfd.readouterr().err
    check_scopes(sizes, spec_of(photo, "{stem}-mask.png"))
    assert "{stem}-mask.png of what to ignore for any of 2 photographs" in capfd.readouterr().err


def test_masks_have_names_that_are_known() -> None:
    assert Data.model_validate(LAYOUT | {"ignore": "{stem}.png"}).ignore == "{stem}.png"
    with pytest.raises(ValueError, match="unknown"):
        Data.model_validate(LAYOUT | {"ignore": "{x}.png"})


def square_of(photo: Path, rule: Any, **options: Any) -> ImageSpec:
    return ImageSpec("L", 20, rule, ignore=str(photo.with_name("ignored.png")), **options)


@pytest.mark.parametrize(
    ("rule", "shape", "columns"),
    [
        # Columns 30 to 34 of 60; what shows any of them does not count.
        ("stretch", (20, 20), [10, 11]),
        # The picture is 20 x 13.
        ("pad", (13, 20), [10, 11]),
        # Columns 10 to 49, two in each.
        ("crop", (20, 20), [10, 11, 12]),
    ],
)
def test_square_images_ignore_too(
    photo: Path, rule: Any, shape: tuple[int, int], columns: list[int]
) -> None:
    spec = square_of(photo, rule)
    image, (_, counted) = load_scored(photo, spec)
    assert counted is not None
    assert counted.shape == shape
    assert np.flatnonzero(~counted[0]).tolist() == columns
    assert (counted == counted[0]).all()
    loaded = load_counted(photo, spec)
    assert loaded is not None
    assert np.array_equal(loaded, counted)
    # The black stripe is nowhere seen, nor mixed into what is beside it.
    pixels = np.asarray(Image.open(photo)).copy()
    pixels[:, 30:35] = np.rint(pixels[pixels > 0].mean())
    Image.fromarray(pixels).save(photo.with_name("filled.png"))
    expected = load_image(photo.with_name("filled.png"), replace(spec, ignore=None))
    assert np.array_equal(image, expected)
    assert np.array_equal(load_visible(photo, spec), expected)


def test_square_images_ignore_within_a_region_of_interest(photo: Path) -> None:
    _, (area, counted) = load_scored(photo, square_of(photo, None, roi=(25, 0, 45, 20)))
    assert area == Area.whole(20)
    assert counted is not None
    assert np.flatnonzero(~counted[0]).tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("memory", [store.MEMORY, 0])
@pytest.mark.parametrize("rule", ["stretch", "pad"])
@pytest.mark.parametrize("foreground", [None, Foreground(method="otsu")])
def test_anomalies_are_pasted_where_pixels_of_square_images_count(
    photo: Path,
    memory: int,
    rule: Any,
    foreground: Foreground | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "MEMORY", memory)
    spec = square_of(photo, rule)
    (images,) = open_images([[photo]], spec, [foreground])
    image, (area, counted) = load_scored(photo, spec)
    assert np.array_equal(images[0], image)
    masks = open_foregrounds(images, foreground)
    assert masks is not None
    allowed = np.zeros((20, 20), bool)
    area.cut(allowed)[:] = counted
    mask = masks[0][0] > 0
    assert mask.any()
    assert not mask[~allowed].any()
    assert foreground is not None or np.array_equal(mask, allowed)


@pytest.mark.parametrize("memory", [store.MEMORY, 0])
@pytest.mark.parametrize("rule", [None, Foreground(method="otsu")])
def test_anomalies_are_pasted_where_pixels_count(
    photo: Path, memory: int, rule: Foreground | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MEMORY", memory)
    (tiles,) = open_images([[photo]], spec_of(photo), [rule])
    masks = open_foregrounds(tiles, rule)
    assert isinstance(tiles, Tiles)
    assert isinstance(masks, Tiles)
    counted = np.asarray(Image.open(photo)) > 0
    for index, (_, top, left) in enumerate(tiles.places):
        mask = masks[index][0] > 0
        here = counted[top : top + 32, left : left + 32]
        assert not mask[~here].any()
        assert np.array_equal(mask, here) if rule is None else mask.any()


def test_region_of_interest_is_cut_out_of_images_and_masks(photo: Path) -> None:
    roi = (10, 4, 58, 38)
    pixels, truth = np.asarray(Image.open(photo)), photo.with_name("ignored.png")
    test = TestImage(photo, "photo.png", "stripe", truth)
    tiled = spec_of(photo, roi=roi)
    image, (_, counted) = load_scored(photo, tiled)
    assert image.shape == (1, 34, 48)
    assert counted is not None
    assert np.array_equal(counted, pixels[4:38, 10:58] > 0)
    assert np.array_equal(load_mask(test, tiled), pixels[4:38, 10:58] == 0)
    assert load_mask(TestImage(photo, "photo.png", "good"), tiled).shape == (34, 48)
    (tiles,) = open_images([[photo]], tiled)
    assert isinstance(tiles, Tiles)
    assert tiles.places[-1].tolist() == [0, 2, 16]
    # Without tiles, too.
    square = ImageSpec("L", 32, "stretch", roi=(0, 0, 32, 32))
    assert np.array_equal(load_image(photo, square)[0], pixels[:32, :32])
    assert np.array_equal(load_mask(test, square), pixels[:32, :32] == 0)


def test_regions_of_interest_beyond_an_image_are_refused(photo: Path) -> None:
    with pytest.raises(ImageError, match="60 x 40 pixels, but the region of interest ends at 61"):
        load_image(photo, ImageSpec("L", 32, "stretch", roi=(0, 0, 61, 40)))
    with pytest.raises(ValueError, match="smaller than right and bottom"):
        Data.model_validate(LAYOUT | {"roi": [10, 0, 10, 5]})
