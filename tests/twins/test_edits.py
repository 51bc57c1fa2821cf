"""Edits of photographs: what they change, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest

from sia_gen.config.strength import EDITS
from sia_gen.images.squares import Area
from sia_gen.twins.edits import EDITORS, PIECE_SIDES, edit_photograph, edit_photographs

SIZE = 48


def photograph(channels: int = 1) -> np.ndarray:
    """A bright part with a texture of its own, on black."""
    rng = np.random.default_rng(0)
    image = np.zeros((channels, SIZE, SIZE), np.uint8)
    image[:, 8:40, 12:36] = rng.integers(100, 256, (channels, 32, 24))
    return image


def foreground() -> np.ndarray:
    return (photograph()[:1] > 0).astype(np.uint8)


def test_there_is_an_editor_for_every_edit() -> None:
    assert tuple(EDITORS) == EDITS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", EDITS)
def test_edit_changes_one_place_of_every_photograph(name: str, known: bool, channels: int) -> None:
    image = photograph(channels)
    before = image.copy()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        result = edit_photograph(name, image, foreground() if known else None, rng)
        assert np.array_equal(image, before)
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        changed = (result != image).any(axis=0)
        pieces = 2 if name in ("shift", "swap") else 1
        assert 0 < changed.sum() <= pieces * (PIECE_SIDES[1] * SIZE) ** 2


@pytest.mark.parametrize("name", ["mirror", "swap", "erase"])
def test_known_foreground_bounds_what_changes(name: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        result = edit_photograph(name, photograph(), foreground(), rng)
        assert np.array_equal(result[foreground() == 0], photograph()[foreground() == 0])


@pytest.mark.parametrize("name", ["mirror", "swap"])
def test_pixels_of_the_part_are_kept(name: str) -> None:
    result = edit_photograph(name, photograph(), foreground(), np.random.default_rng(1))
    assert np.array_equal(np.sort(result, axis=None), np.sort(photograph(), axis=None))


def test_erased_piece_becomes_background() -> None:
    for seed in range(20):
        image = photograph()
        result = edit_photograph("erase", image, foreground(), np.random.default_rng(seed))
        changed = result != image
        assert (result[changed] < 60).all()


def test_shifted_piece_is_elsewhere_and_its_place_empty_or_not() -> None:
    image, doubled = photograph(), 0
    for seed in range(40):
        result = edit_photograph("shift", image, foreground(), np.random.default_rng(seed))
        # Pixels of the background cannot have moved.
        assert (result[result != image] < 256).all()
        doubled += not ((result < 60) & (image >= 100)).any()
    assert 5 < doubled < 35


def test_edits_follow_from_the_seeds() -> None:
    images = np.stack([photograph()] * 30)
    names, results = edit_photographs([EDITS] * 30, images, [], [], range(30))
    assert set(names) == set(EDITS)
    again, same = edit_photographs([EDITS], images[7:8], [], [], [7])
    assert again == names[7:8]
    assert np.array_equal(same[0], results[7])


@pytest.mark.parametrize("known", [False, True])
def test_padding_is_neither_moved_nor_covered_nor_copied(known: bool) -> None:
    area = Area(0, SIZE, 18, 28)
    images = np.zeros((60, 1, SIZE, SIZE), np.uint8)
    rng = np.random.default_rng(0)
    images[:, :, :, 18:28] = rng.integers(100, 256, (60, 1, SIZE, 10))
    # Without a rule the foreground of a padded photograph is its picture.
    inside = (images > 0).astype(np.uint8)
    _, results = edit_photographs(
        [EDITS] * 60, images, list(inside) if known else [], [area] * 60, range(60)
    )
    assert not results[images == 0].any()
    assert (results[images > 0] >= 100).all()
    assert (results != images).any(axis=(1, 2, 3)).all()


def test_tiny_foreground_is_edit_photograph() -> None:
    tiny = np.zeros((1, SIZE, SIZE), np.uint8)
    tiny[0, 20, 20] = 1
    image = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(1, SIZE, SIZE)
    for name in EDITS:
        assert edit_photograph(name, image, tiny, np.random.default_rng(0)).shape == image.shape
