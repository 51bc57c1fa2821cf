"""What two images differ by if nothing but chance is between them.

Normal images, samples of strength 0, go a part of the way back to noise and come back with other
noise, again at strength 0. They show the same part as before, but not to the pixel; what an anomaly
is has to differ by more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sia_gen.realnet.backbone import Backbone
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import batches_of
from sia_gen.twins.change import ChangeMeasure
from sia_gen.twins.masks import ChanceLimits, smoothed

# Normal images to learn from, and how often each comes back.
IMAGES, TIMES = 32, 2
# Share of the steps that they take back and forth: their details change, and what they show stays.
START = 0.1

# Makes normal images, (B, C, H, W) in [0, 1], of these numbers and seeds: new ones, or from images
# that go back by `START`.
Sampler = Callable[[range, list[int], torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class Chance:
    """What chance does to the images of a category.

    Attributes:
        measure: Of how far images are apart.
        limits: What the smoothed distances that it makes stay below.
    """

    measure: ChangeMeasure
    limits: ChanceLimits


def measure_chance(
    sample: Sampler,
    backbone: Backbone,
    size: int,
    name: str,
    batch_size: int,
) -> Chance:
    """Learns what chance does.

    Args:
        sample: Makes normal images.
        backbone: Gives the features.
        size: Side of the images it is given, pixels.
        name: Of the category; it decides the seeds.
        batch_size: Images made together.
    """
    batches = batches_of(IMAGES, batch_size)
    pairs = []
    with Progress(f"{name}: what chance does", IMAGES * (1 + TIMES)) as progress:

        def make(numbers: range, time: int, images: torch.Tensor | None) -> torch.Tensor:
            made = sample(numbers, seeds(name, time, numbers), images)
            progress.advance(len(numbers))
            return made

        normal = [make(numbers, 0, None) for numbers in batches]
        for time in range(1, TIMES + 1):
            again = zip(batches, normal, strict=True)
            pairs += [(images, make(numbers, time, images)) for numbers, images in again]
    measure = ChangeMeasure.of(backbone, size, torch.cat(normal))
    measure = replace(measure, levels=chance_levels(measure, pairs))
    maps = torch.cat([measure.distances(*pair) for pair in pairs]).cpu().numpy()
    return Chance(measure, ChanceLimits.of(np.stack([smoothed(one) for one in maps])))


def chance_levels(
    measure: ChangeMeasure, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[float]:
    """The mean of each kind of distance over all pixels."""
    means = [[float(part.double().mean()) for part in measure.parts(*pair)] for pair in pairs]
    weights = [len(pair[0]) for pair in pairs]
    # A model that makes one image only has no chance; then all that differs counts.
    return [max(float(level), 1e-6) for level in np.average(means, axis=0, weights=weights)]


def seeds(name: str, time: int, numbers: range) -> list[int]:
    """Seeds that no sample of the corpus has."""
    return [
        int.from_bytes(
            hashlib.sha256(f"{name}/chance/{time}/{number}".encode()).digest()[:6], "big"
        )
        for number in numbers
    ]
