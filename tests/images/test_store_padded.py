"""Padded images in memory and from files: where their pictures and the objects in these are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sia_gen.config.data import Foreground
from sia_gen.images.by_number import areas_of
from sia_gen.images.loading import ImageSpec
from sia_gen.images.squares import Area
from sia_gen.images.store import foreground_mask, open_foregrounds, open_images
from tests.images.conftest import disc_pictures

SPEC = ImageSpec("L", 32, "pad")
OTSU = Foreground(method="otsu", close=16)
AREAS = [Area(8, 24, 0, 32), Area(0, 32, 8, 24), Area.whole(32)]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A wide, a tall and a square picture."""
    return disc_pictures(tmp_path, [(32, 64), (64, 32), (32, 32)])


def test_areas_are_those_of_the_pictures(paths: list[Path], opened: str) -> None:
    (images,) = open_images([paths], SPEC)
    assert (len(images), areas_of(images)) == (3, AREAS)
    assert images[0].shape == (1, 32, 32)
    (stretched,) = open_images([paths], ImageSpec("L", 32, "stretch"))
    assert areas_of(stretched) is None


def test_without_a_rule_the_pictures_are_the_objects(paths: list[Path], opened: str) -> None:
    (images,) = open_images([paths], SPEC)
    for rule in (None, Foreground(method="none")):
        masks = open_foregrounds(images, rule)
        assert masks is not None
        for number, area in enumerate(AREAS):
            expected = np.zeros((1, 32, 32), np.uint8)
            expected[0, area.top : area.bottom, area.left : area.right] = 1
            assert np.array_equal(masks[number], expected)


def test_objects_are_found_in_the_pictures_alone(paths: list[Path], opened: str) -> None:
    (images,) = open_images([paths], SPEC, [OTSU])
    masks = open_foregrounds(images, OTSU)
    assert masks is not None
    for number, area in enumerate(AREAS):
        mask, image = masks[number], images[number]
        assert np.array_equal(area.cut(mask), foreground_mask(area.cut(image), OTSU))
        assert mask.sum() == area.cut(mask).sum()
        assert 0 < mask.mean() < 0.5


def test_kernels_have_the_scale_of_the_square(paths: list[Path]) -> None:
    """A gap closes in a wide picture as it does in a square one of the same size."""
    pixels = np.zeros((1, 32, 32), np.uint8)
    pixels[:, 10:22, 4:28] = 200
    pixels[:, :, 15:17] = 0
    rule = Foreground(method="otsu", close=24)
    wide = foreground_mask(pixels[:, 8:24], rule)
    assert np.array_equal(wide, foreground_mask(pixels, rule)[:, 8:24])
    assert wide[0, 8, 15] == 1
