"""Readiness: whether a model has learnt enough, in figures and in words.

"My samples are only noise" has two causes: a model that is not finished, or too much strength.
Three figures of a model tell them apart before any strength is chosen:

- the noise left in its samples of strength 0, against that in real images;
- the error with which it finds back to real images it has not seen, after DDIM inversion, against
  how far these are from the nearest training image: a model that knows no more than its training
  images is off by as much;
- how far its samples are from the nearest training image, seen coarsely, against how far real
  images it has not seen are. A model learns textures long before it knows where the parts belong.

All are relative to the images themselves, but what counts as enough was found on one data set, the
grey cells of ELPV at 64 and 128 pixels, and is untried on others. On textures the first says
little: it takes their finest detail for noise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve
from torch.nn import functional

from sia_gen.images.store import Images
from sia_gen.io.json import read_json
from sia_gen.train.batches import batches_of

# The second derivative across both axes: blind to anything smooth, and to edges (Immerkaer, 1996).
LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1])
# Between models of ELPV whose samples looked like cells, and models whose samples did not: at 128
# pixels these had error ratios of 0.4, and of 0.8 and more.
MOST_NOISE = 1.5
LARGEST_ERROR = 0.6
LARGEST_DISTANCE = 2.5
LIMITS_FROM = "grey solar cells (ELPV) at 64 and 128 pixels, untried on other images"
# One grey level, below which differences do not show; ELPV's own noise is less.
SMALLEST = 1 / 255
# Pixels per side that are enough to see where things are, and too few to see texture.
COARSE_SIDE = 16
IMAGES_AT_A_TIME = 64


@dataclass(frozen=True)
class Readiness:
    """How far a model has come.

    Attributes:
        noise_of_samples: Standard deviation of the finest detail in samples of strength 0, pixels
            in [0, 1].
        noise_of_images: Likewise, in real normal images.
        reconstruction_error: Root mean square difference between normal images kept back and their
            reconstructions after DDIM inversion, pixels in [0, 1].
        distance_of_samples: Root mean square difference of a sample of strength 0 from the nearest
            training image, both reduced to `COARSE_SIDE` pixels, median over the samples.
        distance_of_images: Likewise, of normal images kept back.
        difference_of_images: Root mean square difference of these from the nearest training image
            each, at full size.
        samples: How many samples, and at most how many images, the figures are of.
    """

    noise_of_samples: float
    noise_of_images: float
    reconstruction_error: float
    distance_of_samples: float
    distance_of_images: float
    difference_of_images: float
    samples: int

    @property
    def noise_ratio(self) -> float:
        """How much more noise samples have than images; less than `SMALLEST` counts as that."""
        return self.noise_of_samples / max(self.noise_of_images, SMALLEST)

    @property
    def distance_ratio(self) -> float:
        """How much farther samples are from the training images than unseen real images are."""
        return self.distance_of_samples / max(self.distance_of_images, SMALLEST)

    @property
    def error_ratio(self) -> float:
        """How far off reconstructions are, beside the nearest training images."""
        return self.reconstruction_error / max(self.difference_of_images, SMALLEST)

    @property
    def ready(self) -> bool:
        """Whether the model is fit to synthesise with."""
        return (
            self.noise_ratio <= MOST_NOISE
            and self.error_ratio <= LARGEST_ERROR
            and self.distance_ratio <= LARGEST_DISTANCE
        )

    def describe(self) -> str:
        """What the figures mean, one sentence."""
        figures = (
            f"samples of strength 0 have {self.noise_ratio:.1f} times the noise of real images, "
            f"and {self.distance_ratio:.1f} times their distance from the training images, "
            f"reconstructions are {self.error_ratio:.2f} times as far off as the nearest of these"
        )
        if self.ready:
            return f"ready: {figures} (limits from {LIMITS_FROM})"
        return (
            f"not ready: {figures}; more than {MOST_NOISE}, {LARGEST_DISTANCE} or {LARGEST_ERROR} "
            "means that the model needs more training, whatever the strength "
            f"(limits from {LIMITS_FROM})"
        )

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        ratios = {
            "noise_ratio": self.noise_ratio,
            "distance_ratio": self.distance_ratio,
            "error_ratio": self.error_ratio,
        }
        return {**asdict(self), **ratios}

    def to_json(self) -> dict[str, object]:
        """The figures, the verdict, and the limits that it rests on."""
        limits = {
            "noise_ratio": MOST_NOISE,
            "distance_ratio": LARGEST_DISTANCE,
            "error_ratio": LARGEST_ERROR,
            "from": LIMITS_FROM,
        }
        return {**self.figures(), "ready": self.ready, "limits": limits}


def measure_readiness(
    samples: torch.Tensor,
    images: torch.Tensor,
    reconstructions: torch.Tensor,
    training_images: Images,
) -> Readiness:
    """Compares samples of strength 0 and reconstructions of real images with the real images.

    Args:
        samples: (B, C, H, W) in [0, 1].
        images: Normal images kept back, (M, C, H, W) in [0, 1].
        reconstructions: What the model makes of these, likewise.
        training_images: Those that the model learns from.
    """
    # An inversion that leaves the numbers finds nothing back.
    difference = (images - reconstructions.clamp(0, 1)).square().nan_to_num(1.0)
    images, samples = images.cpu(), samples.cpu()
    coarse_samples, coarse_reals, differences = nearest(
        [(samples, COARSE_SIDE), (images, COARSE_SIDE), (images, images.shape[-1])], training_images
    )
    return Readiness(
        noise_of_samples=noise_level(samples.numpy()),
        noise_of_images=noise_level(images.numpy()),
        reconstruction_error=float(difference.mean().sqrt()),
        distance_of_samples=float(np.median(coarse_samples.numpy())),
        distance_of_images=float(np.median(coarse_reals.numpy())),
        difference_of_images=float(differences.square().mean().sqrt()),
        samples=len(samples),
    )


def nearest(
    queries: Sequence[tuple[torch.Tensor, int]], training_images: Images
) -> list[torch.Tensor]:
    """Root mean square difference of each image from the nearest training image.

    Args:
        queries: Images (B, C, H, W) in [0, 1], and the pixels per side that they and the training
            images are reduced to by averaging.
        training_images: N of them, each (C, H, W), 0 to 255; each is read once.

    Returns:
        The differences of each query, (B,).
    """
    ours = [reduced(images, side) for images, side in queries]
    least = [torch.full((len(one),), torch.inf) for one in ours]
    for indices in batches_of(len(training_images), IMAGES_AT_A_TIME):
        part = torch.from_numpy(np.stack([training_images[index] for index in indices])) / 255
        for place, (_, side) in enumerate(queries):
            distances = torch.cdist(ours[place], reduced(part, side)).amin(dim=1)
            least[place] = torch.minimum(least[place], distances / math.sqrt(ours[place].shape[1]))
    return least


def reduced(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images (B, C, H, W) reduced to `side` pixels, as rows of a matrix."""
    return functional.adaptive_avg_pool2d(images, side).flatten(1)


def noise_level(images: NDArray[np.floating]) -> float:
    """Median over the images of the standard deviation of their noise (Immerkaer's estimate).

    Args:
        images: (B, C, H, W), H and W at least 3.
    """
    kernel = LAPLACIAN[None, None]
    # The borders see pixels that are not there.
    inside = np.abs(convolve(images.astype(np.float64), kernel))[..., 1:-1, 1:-1]
    per_image = inside.mean(axis=(1, 2, 3)) * np.sqrt(np.pi / 2) / 6
    return float(np.median(per_image))


def unready(report: Path) -> str | None:
    """Why the model with this report is not ready; None if it is, or if nothing is known."""
    # A damaged report is none: the samples tell as well.
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        figures = read_json(report)["readiness"]
        if figures is None:
            return "perhaps not ready: its training had no time to see"
        if not figures["ready"]:
            known = {part.name: figures.get(part.name) for part in fields(Readiness)}
            return "not ready" if None in known.values() else Readiness(**known).describe()
    return None
