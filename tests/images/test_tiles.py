"""Tiles of photographs in memory and from files, and the objects in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.data import Foreground, Tile
from sia_gen.errors import ImageError
from sia_gen.images.by_number import Tiles, drawn, numbers_of
from sia_gen.images.loading import ImageSpec, load_image, load_photograph
from sia_gen.images.store import foreground_mask, open_foregrounds, open_images
from tests.images.conftest import disc_pictures

OTSU = Foreground(method="otsu", close=16)
SHAPES = [(40, 64), (64, 40), (32, 32)]
TILE = Tile(size=32, overlap=8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A wide, a tall and a square picture."""
    return disc_pictures(tmp_path, SHAPES)


def open_tiles(paths: list[Path], spec: ImageSpec, rule: Foreground | None = None) -> Tiles:
    (images,) = open_images([paths], spec, [rule])
    assert isinstance(images, Tiles)
    return images


def test_tiles_are_pieces_of_the_photographs(paths: list[Path], opened: str) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 32, tile=TILE))
    # Without overlap, so that no pixel is learnt from twice without need.
    assert tiles.places.tolist() == [
        *([0, top, left] for top in (0, 8) for left in (0, 32)),
        *([1, top, left] for top in (0, 32) for left in (0, 8)),
        [2, 0, 0],
    ]
    assert numbers_of(tiles).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    for index, (number, top, left) in enumerate(tiles.places):
        whole = np.asarray(Image.open(paths[number]))
        assert np.array_equal(tiles[index][0], whole[top : top + 32, left : left + 32])
    again = pickle.loads(pickle.dumps(tiles))
    assert np.array_equal(again[5], tiles[5])


def test_scale_reduces_photographs_and_the_size_of_a_model_tiles(
    paths: list[Path], opened: str
) -> None:
    spec = ImageSpec("L", 24, tile=Tile(size=16, overlap=4, scale=0.5))
    tiles = open_tiles(paths, spec)
    assert [photograph.shape for photograph in map(tiles.photographs.__getitem__, range(3))] == [
        (1, 20, 32),
        (1, 32, 20),
        (1, 16, 16),
    ]
    assert tiles[0].shape == (1, 24, 24)
    expected = Image.fromarray(load_photograph(paths[0], spec)[0, :16, 16:]).resize(
        (24, 24), Image.Resampling.BICUBIC
    )
    assert np.array_equal(tiles[1][0], expected)


def test_tiles_to_learn_from_are_drawn_from_anywhere_in_the_photograph(
    paths: list[Path], opened: str
) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 32, tile=TILE))
    whole = np.asarray(Image.open(paths[0]))
    windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32))
    found = set()
    for seed in range(300):
        tile = drawn(tiles, 1, np.random.default_rng(seed))
        places = np.argwhere((windows == tile[0]).all(axis=(2, 3)))
        found.add(tuple(places[0].tolist()))
    tops, lefts = ({place[axis] for place in found} for axis in (0, 1))
    assert tops == set(range(9))
    assert lefts == set(range(33))
    once, again = (drawn(tiles, 1, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(once, again)


def test_objects_are_found_in_whole_photographs(paths: list[Path], opened: str) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 32, tile=TILE), OTSU)
    masks = open_foregrounds(tiles, OTSU)
    assert isinstance(masks, Tiles)
    for index, (number, top, left) in enumerate(tiles.places):
        whole = foreground_mask(np.asarray(Image.open(paths[number]))[None], OTSU)
        assert np.array_equal(masks[index], whole[:, top : top + 32, left : left + 32])
    assert open_foregrounds(tiles, None) is None


def test_a_tile_put_back_gives_the_photograph(paths: list[Path]) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 32, tile=TILE))
    photograph = tiles.photographs[0]
    assert np.array_equal(tiles.pasted(photograph, tiles[3], 8, 32), photograph)
    changed = tiles.pasted(photograph, 255 - tiles[3], 8, 32)
    assert np.array_equal(changed[:, 8:, 32:], 255 - photograph[:, 8:, 32:])
    assert np.array_equal(changed[:, :8], photograph[:, :8])
    assert np.array_equal(changed[..., :32], photograph[..., :32])


@pytest.mark.parametrize(
    ("tile", "told"),
    [
        (Tile(size=41, overlap=0), "0.png is 64 x 40 pixels, less than a tile of 41"),
        (
            Tile(size=32, overlap=0, scale=0.5),
            "0.png is 64 x 40 pixels, 32 x 20 at the scale, less than a tile of 32",
        ),
    ],
)
def test_tiles_larger_than_a_photograph_are_refused(
    paths: list[Path], tile: Tile, told: str
) -> None:
    with pytest.raises(ImageError) as error:
        open_images([paths], ImageSpec("L", 32, tile=tile))
    assert told in error.value.problem
    assert "--tile" in error.value.fix


def test_photographs_may_be_larger_than_images(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ImageSpec("L", 32, tile=TILE)
    # Their 2560 pixels are between the limit and 12 times the limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert load_photograph(paths[0], spec).shape == (1, 40, 64)
    assert Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(ImageError, match="decompression bomb"):
        load_image(paths[0], ImageSpec("L", 32, "stretch"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ImageError, match=r"decompression bomb.* to 'skip'\.$"):
        load_photograph(paths[0], spec)


def test_changes_fade_out_where_a_tile_meets_others(paths: list[Path]) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 32, tile=TILE))
    before, mask = tiles[3], np.full((1, 32, 32), 255, np.uint8)
    after = np.where(before > 127, before - 40, before + 40)
    # The last tile of a photograph of 40 x 64, at row 8 and column 32.
    changed, where, whole = tiles.changed(3, before, after, mask)
    assert np.array_equal(whole, tiles.photographs[0])
    difference = np.abs(changed.astype(int) - whole)[0]
    assert difference[:8].max() == difference[:, :32].max() == 0
    assert (difference[16:, 40:] == 40).all()
    # No step along the seams is much larger than that of a sine squared over half of 8 pixels.
    steps = np.abs(np.diff(np.pad(difference, ((0, 0), (0, 0))), axis=0)[:, 48:])
    assert steps.max() <= np.ceil(40 * np.sin(np.pi / 8))
    assert difference[8, 48] == 0
    assert where[0, 20:, 44:].all()
    assert not where[0, :8].any()
    assert (where[0] > 0).sum() < 32 * 32
    unchanged, _, _ = tiles.changed(3, before, before, mask)
    assert np.array_equal(unchanged, whole)


def test_changes_of_tiles_in_another_size(paths: list[Path]) -> None:
    tiles = open_tiles(paths, ImageSpec("L", 16, tile=TILE))
    before, mask = tiles[8], np.zeros((1, 16, 16), np.uint8)
    mask[:, 4:8, 4:8] = 255
    after = np.where(mask > 0, 0, before)
    # A tile that is the whole photograph fades out nowhere.
    changed, where, whole = tiles.changed(8, before, after, mask)
    assert np.array_equal(where[0] > 0, np.kron(mask[0] > 0, np.ones((2, 2), bool)))
    assert (changed.astype(int) - whole)[:, 10:14, 10:14].max() < -20
    assert np.array_equal(changed[:, 20:], whole[:, 20:])
