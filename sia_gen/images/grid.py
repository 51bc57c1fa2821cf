"""Where the tiles of a photograph lie, and how what is found in each becomes one map.

Tiles lie on a regular grid; the last row and column are moved inside, so that they end at the edge.
Where tiles overlap, the weight of each falls smoothly to zero before its edge, where a network sees
less of what surrounds a pixel. All weights of a pixel add up to one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sia_gen.config.data import Tile

# Share of an overlap, at its edges, in which the outer tile has no weight.
MARGIN = 0.25

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The tiles of a photograph: all pairs of a row and a column, row by row."""

    height: int
    width: int
    side: int
    tops: list[int]
    lefts: list[int]

    @classmethod
    def of(cls, shape: tuple[int, int], tile: Tile, *, overlap: int | None = None) -> Self:
        """Returns the tiles of a photograph of some height and width, none below `tile.size`."""
        shared = tile.overlap if overlap is None else overlap
        tops, lefts = (starts_along(length, tile.size, shared) for length in shape)
        return cls(*shape, tile.size, tops, lefts)

    @property
    def places(self) -> list[tuple[int, int]]:
        """The top and left of each tile."""
        return [(top, left) for top in self.tops for left in self.lefts]

    def blended(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Blends what was found in each tile, (side, side), to the rows of one map.

        Yields rows (h, width) from the top as soon as they are final, so memory is that of one row
        of tiles. A constant stays the same to the last bit.
        """
        remaining, rows = iter(tiles), weights_along(self.tops, self.side)
        columns = weights_along(self.lefts, self.side)
        pending = np.zeros((0, self.width))
        ends = [*self.tops[1:], self.height]
        for top, end, row in zip(self.tops, ends, rows, strict=True):
            band = np.zeros((self.side, self.width))
            for left, column in zip(self.lefts, columns, strict=True):
                band[:, left : left + self.side] += column * next(remaining)
            band *= row[:, None]
            band[: len(pending)] += pending
            yield band[: end - top].astype(np.float32)
            pending = band[end - top :]


def starts_along(length: int, side: int, overlap: int) -> list[int]:
    """Returns where tiles begin along an axis; neighbours share at least `overlap` pixels."""
    last = length - side
    return [*range(0, last, side - overlap), last]


def weights_along(starts: list[int], side: int) -> Weights:
    """Returns the weights of tiles along an axis, (tiles, side); those of each pixel sum to 1."""
    total = np.zeros(starts[-1] + side)
    weights = np.ones((len(starts), side))
    for before, after in pairwise(range(len(starts))):
        # Tiles that are moved inside may overlap more than their neighbours.
        shared = starts[before] + side - starts[after]
        rise = _smooth_rise(shared)
        weights[after, :shared] *= rise
        weights[before, side - shared :] *= rise[::-1]
    for start, some in zip(starts, weights, strict=True):
        total[start : start + side] += some
    for start, some in zip(starts, weights, strict=True):
        some /= total[start : start + side]
    return weights


def fading(side: int, start: int, length: int, over: int) -> Weights:
    """Returns weights of a tile along an axis, (side,), that fade out over its outer pixels.

    They do not where the tile ends with the photograph, which has `length` pixels.
    """
    weights, rise = np.ones(side), _smooth_rise(over)
    if start > 0:
        weights[: len(rise)] *= rise
    if start + side < length:
        weights[side - len(rise) :] *= rise[::-1]
    return weights


def _smooth_rise(length: int) -> Weights:
    """Returns weights that rise from 0 to 1, (length,), of which the reverse is the complement."""
    places = (np.arange(length) + 0.5) / length
    rising = ((places - MARGIN) / (1 - 2 * MARGIN)).clip(0, 1)
    return np.sin(np.pi / 2 * rising) ** 2
