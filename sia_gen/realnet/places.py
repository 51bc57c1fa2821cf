"""What is normal where, for parts that lie alike in all photographs.

An edge or a slot differs more from photograph to photograph than a plain surface does. Its pixels
are anomalous only if they differ more than normal ones at the same place. All pixels of a coarse
surface differ more than those of a fine one, so a map is first put in units of its own spread.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

# Places along each side of a photograph, whatever its size.
PLACES = 32
# In deviations of all normal pixels, so that a place where little varies finds no more than others.
SMALLEST_DEVIATION = 0.25
# In the units of a map: one that hardly varies is not a rough one.
SMALLEST_SPREAD = 1e-3
# About as many pixels of a map as its quartiles are taken from.
SAMPLED = 1_000_000
# Rows of a map that are placed together.
ROWS = 1024

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


class NormalPlaces(nn.Module):
    """Mean and deviation of the maps of normal photographs by place, (PLACES, PLACES)."""

    means: torch.Tensor
    deviations: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(PLACES, PLACES))
        self.register_buffer("deviations", torch.ones(PLACES, PLACES))

    def measure(self, maps: Iterable[Map], counted: Iterable[Mask | None] | None = None) -> None:
        """Takes means and deviations from the maps (H, W) of some normal photographs.

        Those say how far they spread by the pixels that are `counted` in each, as in `placed`.
        """
        sums = torch.zeros(2, PLACES, PLACES, dtype=torch.float64)
        count = 0
        for one, here in zip(maps, counted or repeat(None), strict=False):
            median, spread = quartiles_of(one, here)
            for place in range(PLACES):
                # A row of places at a time, which bounds the memory it takes.
                first, end = place * len(one) // PLACES, -(-(place + 1) * len(one) // PLACES)
                rows = torch.from_numpy((one[first:end] - median) / spread)
                both = torch.stack([rows, rows.square()])[None].double()
                sums[:, place] += adaptive_avg_pool2d(both, (1, PLACES))[0, :, 0]
            count += 1
        means, squares = sums / count
        self.means.copy_(means)
        self.deviations.copy_((squares - means.square()).clamp(min=0).sqrt())
        self.deviations.clamp_(min=SMALLEST_DEVIATION)

    def placed(self, values: Map, counted: Mask | None = None) -> Iterator[Map]:
        """Yields the rows (h, W) of a map in units of normal pixels at each place.

        If not all pixels are `counted`, (H, W), only those tell how far the map spreads.
        """
        median, spread = quartiles_of(values, counted)
        for top in range(0, len(values), ROWS):
            rows = torch.from_numpy((values[top : top + ROWS] - median) / spread)
            yield self.place(rows, top, len(values)).numpy()

    def place(self, rows: torch.Tensor, top: int, height: int) -> torch.Tensor:
        """Puts rows (h, W) of a map in units of normal pixels at each place, and returns them.

        They change in place. The first is row `top` of the map, which has `height` rows.
        """
        columns = torch.stack([self.means, self.deviations])[None].to(rows)
        columns = interpolate(columns, (PLACES, rows.shape[1]), mode="bilinear")
        lower, upper, share = _between(torch.arange(top, top + len(rows)), height)
        between = torch.lerp(columns[0][:, lower], columns[0][:, upper], share.to(rows)[:, None])
        mean, deviation = between
        return rows.sub_(mean).div_(deviation)


def quartiles_of(values: Map, counted: Mask | None = None) -> tuple[np.float32, np.float32]:
    """Returns the median of a map (H, W) and the distance between its quartiles.

    Those say how far it spreads whatever defects it shows. Of large maps some pixels are taken,
    evenly spaced, and of those the ones that count.
    """
    every = max(1, math.isqrt(values.size // SAMPLED))
    some = values[::every, ::every]
    if counted is not None and counted[::every, ::every].any():
        some = some[counted[::every, ::every]]
    lower, median, upper = np.quantile(some, (0.25, 0.5, 0.75)).astype(np.float32)
    return median, max(upper - lower, np.float32(SMALLEST_SPREAD))


def _between(rows: torch.Tensor, height: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the two places that each row lies between, and its share of the way, all (h,)."""
    centres = (rows + 0.5) * PLACES / height - 0.5
    centres = centres.clamp(0, PLACES - 1)
    lower = centres.floor().long()
    return lower, (lower + 1).clamp(max=PLACES - 1), centres - lower
