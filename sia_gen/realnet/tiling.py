"""Scores photographs tile by tile, in one map without seams."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from torch.nn import functional

from sia_gen.config.data import Tile
from sia_gen.images.by_number import resized
from sia_gen.images.grid import Grid
from sia_gen.images.loading import Pixels
from sia_gen.train.batches import batches_of

# Rows of a map that are averaged together.
ROWS = 1024
# Share of the pixels in a square that have to count for their mean to be a score.
LEAST_COUNTED = 0.5

Map = NDArray[np.float32]


def blended_map(
    photograph: Pixels, tile: Tile, size: int, find: Callable[[Pixels], Map], batch_size: int
) -> Map:
    """Returns the map (H, W) of a photograph (C, H, W), blended from those of its tiles.

    Args:
        photograph: The photograph.
        tile: How it is cut.
        size: Height and width in which `find` takes tiles.
        find: Returns the maps (B, size, size) of at most `batch_size` tiles (B, C, size, size).
        batch_size: Number of tiles at a time.
    """
    height, width = photograph.shape[-2:]
    grid = Grid.of((height, width), tile)
    found, done = np.empty((height, width), np.float32), 0
    for rows in grid.blended(_tile_maps(photograph, grid, size, find, batch_size)):
        found[done : done + len(rows)] = rows
        done += len(rows)
    return found


def _tile_maps(
    photograph: Pixels, grid: Grid, size: int, find: Callable[[Pixels], Map], batch_size: int
) -> Iterator[Map]:
    """Yields the map of each tile in the pixels of the photograph, (side, side)."""
    places, side = grid.places, grid.side
    for numbers in batches_of(len(places), batch_size):
        here = [places[number] for number in numbers]
        tiles = [photograph[:, top : top + side, left : left + side] for top, left in here]
        maps = find(np.stack([resized(one, size) for one in tiles]))
        for one in maps:
            yield resized_map(one, (side, side))


def resized_map(anomaly_map: Map, shape: tuple[int, ...]) -> Map:
    """Returns a map (H, W) in another height and width, such as that of the photograph."""
    if anomaly_map.shape == shape:
        return anomaly_map
    given = torch.from_numpy(anomaly_map)[None, None]
    found: Map = functional.interpolate(given, shape, mode="bilinear")[0, 0].numpy()
    return found


def highest_mean(values: Map, window: int, counted: NDArray[np.bool_] | None = None) -> float:
    """Returns the highest mean of a `window` x `window` square of a map (H, W).

    If not all pixels are `counted`, (H, W), it is the mean of those in a square, of which they are
    at least half; without such a square it is the lowest value of all.
    """
    height, width = values.shape
    window = min(window, height, width)
    highest = float(values.min())
    for top in range(0, height - window + 1, ROWS):
        here = slice(top, top + ROWS + window - 1)
        if counted is None:
            means = _means(values[here], window)
        else:
            share = _means(counted[here].astype(np.float64), window)
            sums = _means(np.where(counted[here], values[here], 0), window)
            enough = share >= LEAST_COUNTED
            means = sums[enough] / share[enough]
        if means.size:
            highest = max(highest, float(means.max()))
    return highest


def _means(values: NDArray[Any], window: int) -> NDArray[Any]:
    """Returns the means of all squares by running sums, however large the squares are."""
    for axis in (0, 1):
        places = np.arange(values.shape[axis] - window + 1) + window // 2
        values = uniform_filter1d(values, window, axis=axis).take(places, axis=axis)
    return values
