"""Tiles cover every photograph, and their maps become one without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from sia_gen.config.data import Tile
from sia_gen.images.grid import Grid, starts_along, weights_along


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    side = draw(st.integers(8, 20))
    tile = Tile(size=side, overlap=draw(st.integers(0, side - 1)))
    return Grid.of((draw(st.integers(side, 60)), draw(st.integers(side, 60))), tile)


def blended(grid: Grid, photograph: np.ndarray) -> np.ndarray:
    """What tiles of an image (H, W) become when they are put together again."""
    side = grid.side
    tiles = [photograph[top : top + side, left : left + side] for top, left in grid.places]
    return np.concatenate(list(grid.blended(tiles)))


@given(length=st.integers(8, 200), side=st.integers(8, 40), data=st.data())
def test_tiles_cover_an_axis(length: int, side: int, data: st.DataObject) -> None:
    length = max(length, side)
    overlap = data.draw(st.integers(0, side - 1))
    starts = starts_along(length, side, overlap)
    assert starts[0] == 0
    assert starts[-1] + side == length
    steps = np.diff(starts)
    assert ((steps > 0) & (steps <= side - overlap)).all()
    # None is superfluous.
    assert len(starts) == 1 + -(-(length - side) // (side - overlap))


@given(length=st.integers(8, 200), side=st.integers(8, 40), data=st.data())
def test_weights_add_up_to_one(length: int, side: int, data: st.DataObject) -> None:
    starts = starts_along(max(length, side), side, data.draw(st.integers(0, side - 1)))
    weights, total = weights_along(starts, side), np.zeros(max(length, side))
    for start, some in zip(starts, weights, strict=True):
        assert (some >= 0).all()
        total[start : start + side] += some
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-15)


def test_weights_fall_smoothly_to_zero() -> None:
    (first, second) = weights_along([0, 48], 64)
    # The pixels of the overlap are 16, of which the outer quarters have no weight in one tile.
    assert first[:52].tolist() == [1] * 52
    assert first[-4:].tolist() == [0] * 4
    assert (np.diff(first[51:61]) < 0).all()
    np.testing.assert_allclose(first[48:], second[:16][::-1], rtol=0, atol=1e-15)
    # The steepest step of a sine squared over 8 pixels.
    assert np.abs(np.diff(first)).max() == pytest.approx(np.sin(np.pi / 16), abs=1e-12)


@given(grid=grids(), seed=st.integers(0, 9))
def test_pieces_of_an_image_become_the_image(grid: Grid, seed: int) -> None:
    image = np.random.default_rng(seed).normal(0, 100, (grid.height, grid.width))
    found = blended(grid, image.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, image.astype(np.float32))


@given(grid=grids(), value=st.floats(-1e6, 1e6, width=32))
def test_a_constant_stays_the_same_to_the_last_bit(grid: Grid, value: float) -> None:
    constant = np.full((grid.height, grid.width), value, np.float32)
    np.testing.assert_array_equal(blended(grid, constant), constant)


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (150, 131), (65, 64)])
def test_convolution_of_tiles_is_that_of_the_whole(shape: tuple[int, int]) -> None:
    """Pixels beyond a tile count as zeros, so those near its edge differ, but have no weight."""
    rng = np.random.default_rng(0)
    image, kernel = (torch.from_numpy(rng.normal(size=size)) for size in (shape, (7, 7)))

    def convolved(one: torch.Tensor) -> np.ndarray:
        return conv2d(one[None, None], kernel[None, None], padding=3)[0, 0].float().numpy()

    grid = Grid.of(shape, Tile(size=64, overlap=16))
    tiles = (convolved(image[top : top + 64, left : left + 64]) for top, left in grid.places)
    found = np.concatenate(list(grid.blended(tiles)))
    np.testing.assert_allclose(found, convolved(image), rtol=0, atol=1e-5)


def test_rows_come_as_soon_as_they_are_final() -> None:
    """Memory is that of one row of tiles."""
    grid, read = Grid.of((1000, 64), Tile(size=64, overlap=16)), list[int]()

    def tiles():  # type: ignore[no-untyped-def]
        for number, _ in enumerate(grid.places):
            read.append(number)
            yield np.zeros((64, 64), np.float32)

    done = 0
    for number, rows in enumerate(grid.blended(tiles())):
        assert read[-1] == number
        done += len(rows)
    assert done == 1000
