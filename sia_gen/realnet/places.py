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
# Rows of a map that are placed together.
ROWS = 1024


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
            both = torch.stack([one, one.square()])[None].double()
            sums += adaptive_avg_pool2d(both, PLACES)[0]
            count += 1
        means, squares = sums / count
        self.means.copy_(means)
        self.deviations.copy_((squares - means.square()).clamp(min=0).sqrt())
        self.deviations.clamp_(min=SMALLEST_DEVIATION)

    def place(self, values: torch.Tensor) -> torch.Tensor:
        """Puts a map (H, W) in units of normal pixels at each place, in place, and returns it."""
        height, width = values.shape
        columns = torch.stack([self.means, self.deviations])[None].to(values)
        # Column by column first, so that all rows together never take memory.
        columns = interpolate(columns, (PLACES, width), mode="bilinear")
        rows = _between(height, values)
        for top in range(0, height, ROWS):
            lower, upper, share = (one[top : top + ROWS] for one in rows)
            mean, deviation = torch.lerp(columns[0][:, lower], columns[0][:, upper], share[:, None])
            values[top : top + ROWS].sub_(mean).div_(deviation)
        return values


def _between(height: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the two places that each row lies between, and its share of the way, all (H,)."""
    centres = (torch.arange(height) + 0.5) * PLACES / height - 0.5
    centres = centres.clamp(0, PLACES - 1)
    lower = centres.floor().long()
    return lower, (lower + 1).clamp(max=PLACES - 1), (centres - lower).to(like)
