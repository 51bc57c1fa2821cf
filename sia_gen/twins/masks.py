"""From how far two images are apart at every pixel to a mask of where they differ for real.

What differs by chance is learnt from images that nothing disturbed; see `sia_gen.twins.chance`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter, label
from skimage.filters import apply_hysteresis_threshold

# Standard deviation of the smoothing, as a share of the side.
SMOOTHING = 1 / 64
# Regions of a smaller share of the pixels are specks.
SMALLEST_REGION = 0.002
# What part of undisturbed images stays below the threshold.
QUANTILE = 0.998

Distances = NDArray[np.float32]
Mask = NDArray[np.bool_]


class ChanceLimits(NamedTuple):
    """What the smoothed distances of undisturbed images stay below everywhere.

    Attributes:
        typical: In half of the images.
        largest: In all images but a few.
    """

    typical: float
    largest: float

    @classmethod
    def of(cls, maps: NDArray[np.float32]) -> ChanceLimits:
        """Those of the smoothed distances (N, H, W) of undisturbed images; N >= 2."""
        peaks = maps.max(axis=(1, 2)).astype(np.float64)
        return cls(float(np.median(peaks)), chance_threshold(peaks))


def smoothed(distances: Distances) -> Distances:
    """Distances (H, W), each a mean over its neighbourhood."""
    found: Distances = gaussian_filter(distances, SMOOTHING * len(distances), mode="nearest")
    return found


def chance_threshold(peaks: NDArray[np.float64]) -> float:
    """The distance that all but one in five hundred undisturbed images stay below everywhere.

    The largest of many values follows a Gumbel distribution, whose quantile reaches further than
    the peaks at hand.

    Args:
        peaks: (N,), the largest distance in each undisturbed image; N >= 2.
    """
    scale = float(peaks.std(ddof=1)) * math.sqrt(6) / math.pi
    location = float(peaks.mean()) - np.euler_gamma * scale
    quantile = location - scale * math.log(-math.log(QUANTILE))
    return max(quantile, float(peaks.max()))


def change_mask(distances: Distances, limits: ChanceLimits, region: Mask | None = None) -> Mask:
    """Where an image differs from its twin beyond chance.

    What hardly any chance makes is a difference. In a region it reaches as far as what is around it
    differs by more than chance does as a rule: beyond the region nothing differs, so features,
    which see the surroundings too, cannot carry it there.

    Args:
        distances: (H, W), smoothed.
        limits: Of chance.
        region: Where the image was disturbed, (H, W); everywhere if None.

    Returns:
        (H, W): whole regions, without specks and holes.
    """
    if region is None:
        mask = distances > limits.largest
    else:
        mask = apply_hysteresis_threshold(np.where(region, distances, 0), *limits)
    # Scratches are thin: what is small goes by its area, not by its width.
    mask = binary_fill_holes(mask)
    if region is not None:
        mask &= region
    return without_specks(mask)


def without_specks(mask: Mask) -> Mask:
    """The mask without its regions, 8-connected, of less than `SMALLEST_REGION` of the pixels."""
    regions, _ = label(mask, np.ones((3, 3), bool))
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    found: Mask = (areas >= SMALLEST_REGION * mask.size)[regions]
    return found
