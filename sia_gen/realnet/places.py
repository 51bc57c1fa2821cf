"""What is normal where, for parts that lie alike in all photographs.

An edge or a slot differs more from photograph to photograph than a plain surface does. Its pixels
are anomalous only if they differ more than normal ones at the same place.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

# Places along each side of a photograph, whatever its size.
PLACES = 32
# In deviations of all normal pixels, so that a place where little varies finds no more than others.
SMALLEST_DEVIATION = 0.25


class NormalPlaces(nn.Module):
    """Mean and deviation of the maps of normal photographs by place, (PLACES, PLACES)."""

    means: torch.Tensor
    deviations: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(PLACES, PLACES))
        self.register_buffer("deviations", torch.ones(PLACES, PLACES))

    def measure(self, maps: Iterable[torch.Tensor]) -> None:
        """Takes means and deviations from the maps (H, W) of some normal photographs."""
        sums = torch.zeros(2, PLACES, PLACES, dtype=torch.float64)
        count = 0
        for one in maps:
            for place in range(PLACES):
                # A row of places at a time, which bounds the memory it takes.
                first, end = place * len(one) // PLACES, -(-(place + 1) * len(one) // PLACES)
                rows = one[first:end]
                both = torch.stack([rows, rows.square()])[None].double()
                sums[:, place] += adaptive_avg_pool2d(both, (1, PLACES))[0, :, 0]
            count += 1
        means, squares = sums / count
        self.means.copy_(means)
        self.deviations.copy_((squares - means.square()).clamp(min=0).sqrt())
        self.deviations.clamp_(min=SMALLEST_DEVIATION)

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


def _between(rows: torch.Tensor, height: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the two places that each row lies between, and its share of the way, all (h,)."""
    centres = (rows + 0.5) * PLACES / height - 0.5
    centres = centres.clamp(0, PLACES - 1)
    lower = centres.floor().long()
    return lower, (lower + 1).clamp(max=PLACES - 1), centres - lower
