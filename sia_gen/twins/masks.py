"""Masks of where images differ from their twins by more than chance.

At every pixel an image is compared with its twin in pixels and in features of the backbone. To
learn what chance does, normal images, which are samples of strength 0, go part of the way back to
noise and are denoised again with other noise. They show the same part as before, but not to the
pixel. An anomaly has to differ by more than that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter, label
from skimage.filters import apply_hysteresis_threshold
from torch.nn.functional import interpolate

from sia_gen.realnet.backbone import Backbone
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import batches_of

# Number of normal images to learn from, and how often each is denoised again.
IMAGES, TIMES = 32, 2
# Share of the steps for which they go back: details change, the part stays.
START = 0.1
BATCH_SIZE = 16
# Standard deviation of the smoothing, as a share of the side. Cracks are thin.
SMOOTHING = 1 / 128
# What covers a smaller share of the pixels is a speck: anywhere in an image, and within the region
# that was disturbed, outside of which nothing differs.
SMALLEST_ANYWHERE, SMALLEST_WITHIN = 0.002, 0.0004
# Share of undisturbed images that stay below the threshold everywhere.
QUANTILE = 0.998
# The same within a region, and the number of regions that are drawn for each pair of images.
REGION_QUANTILE, REGION_DRAWS = 0.998, 8

Distances = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Draws the regions of a sample with some number and seed, (K, H, W), one of each kind.
DrawRegions = Callable[[int, int], Mask]
# Makes normal images, (B, C, H, W) in [0, 1], of some numbers and seeds: new ones, or from given
# images that go back by `START`.
Sampler = Callable[[range, list[int], torch.Tensor | None], torch.Tensor]


class ChanceLimits(NamedTuple):
    """Upper limits of the smoothed distances of half, and of nearly all, undisturbed images."""

    typical: float
    largest: float

    @classmethod
    def of(cls, maps: Distances) -> ChanceLimits:
        """Estimates them from smoothed distances (N, H, W) of undisturbed images; N >= 2."""
        peaks = maps.max(axis=(1, 2)).astype(np.float64)
        return cls(float(np.median(peaks)), chance_threshold(peaks))

    @classmethod
    def within(cls, peaks: Sequence[float]) -> ChanceLimits:
        """Estimates them from the largest smoothed distances within regions of such images.

        Most of a part varies less by chance than its edges do, so there is less to exceed.
        """
        return cls(float(np.median(peaks)), float(np.quantile(peaks, REGION_QUANTILE)))


@dataclass(frozen=True)
class ChangeMeasure:
    """Distances between images, in units of what chance does.

    Attributes:
        backbone: Backbone that is standardised by normal images.
        size: Side of the images that it is given, pixels.
        levels: Mean distance by chance in pixels, then in the features of each layer.
    """

    backbone: Backbone
    size: int
    levels: Sequence[float]

    @classmethod
    def of(cls, backbone: Backbone, size: int, normal: torch.Tensor) -> ChangeMeasure:
        """Returns a measure with all levels 1, standardised by images (N, C, H, W) in [0, 1]."""
        own = deepcopy(backbone).to(normal.device)
        own.standardise(own(enlarged(batch, size)) for batch in normal.split(BATCH_SIZE))
        return cls(own, size, [1.0] * (1 + len(own.channels)))

    def parts(self, images: torch.Tensor, others: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the distances in pixels, then in the features of each layer, (B, H, W), >= 0.

        Both images are (B, C, H, W) in [0, 1].
        """
        yield (images - others).abs().mean(dim=1)
        features = [self.backbone(enlarged(some, self.size)) for some in (images, others)]
        for one, other in zip(*features, strict=True):
            apart = (one - other).square().mean(dim=1, keepdim=True).sqrt()
            yield interpolate(apart, size=images.shape[-2:], mode="bilinear")[:, 0]

    def distances(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Returns the mean of the parts, each in units of its level, (B, H, W)."""
        parts = zip(self.parts(images, others), self.levels, strict=True)
        return torch.stack([part / level for part, level in parts]).mean(dim=0)


class Chance(NamedTuple):
    """What chance does to the images of a category, within regions of each kind or anywhere."""

    measure: ChangeMeasure
    limits: list[ChanceLimits]


def measure_chance(
    sample: Sampler,
    backbone: Backbone,
    size: int,
    name: str,
    batch_size: int,
    draw_regions: DrawRegions | None = None,
) -> Chance:
    """Learns what chance does to the images of a category, whose name decides the seeds.

    The backbone, which is not standardised and stays so, is given images of `size` pixels. With
    regions the limits are those within regions of each kind, otherwise those of whole images.
    """
    batches = batches_of(IMAGES, batch_size)
    pairs = []
    draws = 0 if draw_regions is None else TIMES * REGION_DRAWS
    total = IMAGES * (1 + TIMES + draws)
    with Progress(f"{name}: measuring differences by chance", total, alike=False) as progress:

        def make(numbers: range, time: int, images: torch.Tensor | None) -> torch.Tensor:
            made = sample(numbers, chance_seeds(name, time, numbers), images)
            progress.advance(len(numbers))
            return made

        normal = [make(numbers, 0, None) for numbers in batches]
        for time in range(1, TIMES + 1):
            again = zip(batches, normal, strict=True)
            pairs += [(images, make(numbers, time, images)) for numbers, images in again]
        measure = ChangeMeasure.of(backbone, size, torch.cat(normal))
        measure = replace(measure, levels=_chance_levels(measure, pairs))
        maps = torch.cat([measure.distances(*pair) for pair in pairs]).cpu().numpy()
        maps = np.stack([smoothed(one) for one in maps])
        if draw_regions is None:
            return Chance(measure, [ChanceLimits.of(maps)])
        peaks = []
        for number, one in enumerate(maps):
            for seed in chance_seeds(name, number, range(REGION_DRAWS)):
                # The images follow each other in the same order every time.
                drawn = draw_regions(number % IMAGES, seed)
                peaks.append([float(one[region].max(initial=0)) for region in drawn])
                progress.advance()
        return Chance(measure, [ChanceLimits.within(some) for some in zip(*peaks, strict=True)])


def chance_seeds(name: str, time: int, numbers: range) -> list[int]:
    """Returns seeds that no sample of a corpus has."""
    texts = [f"{name}/chance/{time}/{number}" for number in numbers]
    return [int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") for text in texts]


def chance_threshold(peaks: NDArray[np.float64]) -> float:
    """Returns the distance that 499 of 500 undisturbed images stay below everywhere.

    It is estimated from the peaks of N >= 2 images, (N,). The largest of many values follows a
    Gumbel distribution, whose quantile lies beyond the few peaks that were measured.
    """
    scale = float(peaks.std(ddof=1)) * math.sqrt(6) / math.pi
    location = float(peaks.mean()) - np.euler_gamma * scale
    quantile = location - scale * math.log(-math.log(QUANTILE))
    return max(quantile, float(peaks.max()))


def smoothed(distances: Distances) -> Distances:
    """Averages distances (H, W) over the neighbourhood of each pixel."""
    found: Distances = gaussian_filter(distances, SMOOTHING * len(distances), mode="nearest")
    return found


def change_mask(
    distances: Distances, limits: Sequence[ChanceLimits], regions: Mask | None = None
) -> Mask:
    """Returns where an image differs from its twin by more than chance.

    A difference has to exceed the largest limit somewhere. If only regions were disturbed, the mask
    extends from there as far as the typical limit is exceeded: nothing differs beyond a region,
    so features, which see the surroundings too, cannot spread a difference past it.

    Args:
        distances: Smoothed distances, (H, W).
        limits: Upper limits of distances by chance, in regions of each kind.
        regions: Where the image was disturbed, (K, H, W); everywhere if None.

    Returns:
        A mask (H, W) of whole regions without specks and holes.
    """
    if regions is None:
        mask = binary_fill_holes(distances > limits[0].largest)
        return without_specks(mask, SMALLEST_ANYWHERE)
    masks = [_mask_within(distances, *one) for one in zip(limits, regions, strict=True)]
    found: Mask = np.any(masks, axis=0)
    return found


def _mask_within(distances: Distances, limits: ChanceLimits, region: Mask) -> Mask:
    inside = np.where(region, distances, 0)
    mask = binary_fill_holes(apply_hysteresis_threshold(inside, *limits)) & region
    # Scratches are thin, so the area of what differs counts, not its width.
    return without_specks(mask, SMALLEST_WITHIN)


def without_specks(mask: Mask, smallest: float) -> Mask:
    """Removes 8-connected parts of a mask that cover a smaller share of the pixels."""
    parts, _ = label(mask, np.ones((3, 3), bool))
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    found: Mask = (areas >= smallest * mask.size)[parts]
    return found


def enlarged(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resizes images (B, 1 or 3, H, W) in [0, 1] for the backbone, (B, 3, size, size)."""
    large = interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return large.clamp(0, 1).expand(-1, 3, -1, -1)


def _chance_levels(
    measure: ChangeMeasure, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[float]:
    """Returns the mean of each kind of distance over all pixels."""
    means = [[float(part.double().mean()) for part in measure.parts(*pair)] for pair in pairs]
    levels = np.average(means, axis=0, weights=[len(images) for images, _ in pairs])
    # If a model makes a single image only, chance does nothing, and every difference counts.
    return [max(float(level), 1e-6) for level in levels]
