"""Cuts photographs into tiles, and blends what is found in each to one map without seams."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from torch.nn import functional

from sia_gen.config.data import Tile
from sia_gen.errors import ImageError
from sia_gen.images.by_number import resized
from sia_gen.images.grid import Grid
from sia_gen.images.loading import Pixels
from sia_gen.images.strips import Picture, rows_of

# Rows of a map that are averaged together.
ROWS = 1024
# Share of the pixels in a square that are enough for their mean to be a score.
ENOUGH_COUNTED = 0.5

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Returns the maps (B, size, size) of tiles (B, C, size, size).
Find = Callable[[Pixels], Map]


def blended_rows(
    photograph: Picture,
    tile: Tile,
    size: int,
    find: Find,
    batch_size: int,
    sharing: Accelerator | None = None,
) -> Iterator[Map]:
    """Yields the rows (h, W) of the map of a photograph (C, H, W), blended from those of its tiles.

    Args:
        photograph: The photograph.
        tile: How it is cut.
        size: Height and width in which `find` takes tiles.
        find: Returns the maps of at most `batch_size` tiles.
        batch_size: Number of tiles at a time.
        sharing: If given, all of its processes ask for these rows, and share the tiles.
    """
    grid = Grid.of((photograph.shape[-2], photograph.shape[-1]), tile)
    batches = _batches(_tiles(photograph, grid), batch_size)

    def found(tiles: Sequence[Pixels]) -> Map:
        return find(np.stack([resized(one, size) for one in tiles]))

    maps: Iterator[Map] = (one for batch in batches for one in found(batch))
    if sharing is not None:
        maps = _shared(batches, found, (batch_size, size, size), sharing)
    return grid.blended(resized_map(one, (grid.side, grid.side)) for one in maps)


def _tiles(photograph: Picture, grid: Grid) -> Iterator[Pixels]:
    for top in grid.tops:
        rows = rows_of(photograph, top, top + grid.side)
        yield from (rows[..., left : left + grid.side] for left in grid.lefts)


def _batches(tiles: Iterator[Pixels], batch_size: int) -> Iterator[list[Pixels]]:
    while batch := list(islice(tiles, batch_size)):
        yield batch


def _shared(
    batches: Iterator[list[Pixels]],
    find: Callable[[Sequence[Pixels]], Map],
    shape: tuple[int, int, int],
    accelerator: Accelerator,
) -> Iterator[Map]:
    """Yields the maps of tiles, of which each process finds those of one batch in turn.

    Batches are those of a single process, so the maps are as well.
    """
    rank = accelerator.process_index
    while some := _agreed(batches, accelerator.num_processes):
        # All processes give equally many.
        mine = np.zeros(shape, np.float32)
        if rank < len(some):
            mine[: len(some[rank])] = find(some[rank])
        gathered = accelerator.gather(torch.from_numpy(mine).to(accelerator.device))
        found = gathered.cpu().numpy().reshape(-1, *shape)
        for maps, batch in zip(found, some, strict=False):
            yield from maps[: len(batch)]


def _agreed(batches: Iterator[list[Pixels]], count: int) -> list[list[Pixels]]:
    """Returns the next batches, at most `count`, of which all processes have the same.

    Raises:
        ImageError: In all of them, if one cannot read the photograph, or reads another: it may be
            moved or replaced before the last has read it.
    """
    some, problem = list[list[Pixels]](), None
    try:
        some = list(islice(batches, count))
    except ImageError as error:
        problem = error
    seen = [crc32(b"".join(tile.tobytes() for tile in batch)) for batch in some]
    reports = gather_object([None if problem else seen])
    if problem is not None:
        raise problem
    if any(one != seen for one in reports):
        raise ImageError(
            problem="the processes do not read the same photograph; it may be moved, or replaced.",
            fix="Leave photographs in their place while they are read.",
        )
    return some


def resized_map(anomaly_map: Map, shape: tuple[int, ...]) -> Map:
    """Returns a map (H, W) in another height and width, such as that of the photograph."""
    if anomaly_map.shape == shape:
        return anomaly_map
    given = torch.from_numpy(anomaly_map)[None, None]
    found: Map = functional.interpolate(given, shape, mode="bilinear")[0, 0].numpy()
    return found


class HighestMean:
    """The highest mean of a `window` x `window` square of a map, of which rows come in turn.

    If not all pixels count, it is the mean of those in a square that do, of which they are at least
    half; without such a square, of one in which most of them are.
    """

    def __init__(self, window: int, shape: tuple[int, int]) -> None:
        self.window = min(window, *shape)
        # Share of the pixels that count, as far as it matters, and their mean.
        self.best = 0.0, -np.inf
        self.waiting = list[tuple[NDArray[Any], Mask | None]]()

    def add(self, values: NDArray[Any], counted: Mask | None = None) -> None:
        """Adds rows of the map, (h, W), and which of their pixels count; None if all do."""
        self.waiting.append((values.copy(), counted))
        while sum(len(rows) for rows, _ in self.waiting) >= ROWS + self.window - 1:
            self._average(ROWS)

    def finish(self) -> float:
        """Returns the highest mean of the whole map."""
        if sum(len(rows) for rows, _ in self.waiting) >= self.window:
            self._average(ROWS)
        return self.best[1]

    def _average(self, rows: int) -> None:
        """Averages the squares that begin in the next rows."""
        values = np.concatenate([one for one, _ in self.waiting])
        some = [one for _, one in self.waiting if one is not None]
        counted = np.concatenate(some) if some else None
        rest = None if counted is None else counted[rows:]
        self.waiting = [(values[rows:], rest)]
        here = slice(rows + self.window - 1)
        found = _best_mean(values[here], self.window, None if counted is None else counted[here])
        self.best = max(self.best, found)


def _best_mean(values: NDArray[Any], window: int, counted: Mask | None) -> tuple[float, float]:
    """Returns the share of the pixels that count, at most `ENOUGH_COUNTED`, and their mean."""
    if counted is None:
        return ENOUGH_COUNTED, float(_means(values, window).max())
    pixels = window**2
    # Running sums are not exact, but these are whole numbers.
    shares = np.rint(_means(counted.astype(np.float64), window) * pixels) / pixels
    enough = min(float(shares.max()), ENOUGH_COUNTED)
    if not enough:
        return 0.0, -np.inf
    chosen = shares >= enough
    sums = _means(np.where(counted, values, 0), window)
    return enough, float((sums[chosen] / shares[chosen]).max())


def _means(values: NDArray[Any], window: int) -> NDArray[Any]:
    """Returns the means of all squares by running sums, however large the squares are."""
    for axis in (0, 1):
        places = np.arange(values.shape[axis] - window + 1) + window // 2
        values = uniform_filter1d(values, window, axis=axis).take(places, axis=axis)
    return values
