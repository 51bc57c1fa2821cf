"""Readiness: whether a model has learnt enough, in figures and in words.

"My samples are only noise" has two causes: a model that is not finished, or too much strength.
Three figures of a model tell them apart before any strength is chosen:

- the noise left in its samples of strength 0, against that in real images;
- the error with which it finds back to real images it has not seen, after DDIM inversion;
- how far its samples are from the nearest training image, seen coarsely, against how far real
  images it has not seen are. A model learns textures long before it knows where the parts belong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve
from torch.nn import functional

from sia_gen.batches import batches_of
from sia_gen.images.store import Images
from sia_gen.strict_json import read_json

# The second derivative across both axes: blind to anything smooth, and to edges (Immerkaer, 1996).
LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1])
# Between models of ELPV whose samples looked like cells, and models whose samples did not.
MOST_NOISE = 1.5
LARGEST_ERROR = 0.05
LARGEST_DISTANCE = 2.5
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
    """

    noise_of_samples: float
    noise_of_images: float
    reconstruction_error: float
    distance_of_samples: float
    distance_of_images: float

    @property
    def noise_ratio(self) -> float:
        """How much more noise samples have than images; images without any count as 1/255."""
        return self.noise_of_samples / max(self.noise_of_images, 1 / 255)

    @property
    def distance_ratio(self) -> float:
        """How much farther samples are from the training images than unseen real images are."""
        return self.distance_of_samples / max(self.distance_of_images, 1 / 255)

    @property
    def ready(self) -> bool:
        """Whether the model is fit to synthesise with."""
        return (
            self.noise_ratio <= MOST_NOISE
            and self.reconstruction_error <= LARGEST_ERROR
            and self.distance_ratio <= LARGEST_DISTANCE
        )

    def describe(self) -> str:
        """What the figures mean, one sentence."""
        figures = (
            f"samples of strength 0 have {self.noise_ratio:.1f} times the noise of real images, "
            f"and {self.distance_ratio:.1f} times their distance from the training images, "
            f"reconstructions are off by {self.reconstruction_error:.3f}"
        )
        if self.ready:
            return f"ready: {figures}"
        return (
            f"not ready: {figures}; more than {MOST_NOISE}, {LARGEST_DISTANCE} or {LARGEST_ERROR} "
            "means that the model needs more training, whatever the strength"
        )

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        ratios = {"noise_ratio": self.noise_ratio, "distance_ratio": self.distance_ratio}
        return {**asdict(self), **ratios}

    def to_json(self) -> dict[str, float | bool]:
        """The figures and the verdict."""
        return {**self.figures(), "ready": self.ready}


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
    known = coarse_images(training_images)
    # An inversion that leaves the numbers finds nothing back.
    difference = (images - reconstructions.clamp(0, 1)).square().nan_to_num(1.0)
    return Readiness(
        noise_of_samples=noise_level(samples.cpu().numpy()),
        noise_of_images=noise_level(images.cpu().numpy()),
        reconstruction_error=float(difference.mean().sqrt()),
        distance_of_samples=coarse_distance(samples.cpu(), known),
        distance_of_images=coarse_distance(images.cpu(), known),
    )


def coarse_images(images: Images) -> torch.Tensor:
    """Any number of images as `coarse` gives them, read once."""
    parts = batches_of(len(images), IMAGES_AT_A_TIME)
    pixels = (np.stack([images[index] for index in part]) for part in parts)
    return torch.cat([coarse(torch.from_numpy(part).float() / 255) for part in pixels])


def coarse_distance(images: torch.Tensor, known: torch.Tensor) -> float:
    """Median over images (B, C, H, W) in [0, 1] of the distance to the nearest coarse one.

    Distances are root mean square differences of pixels, after both were reduced by averaging.
    """
    reduced = coarse(images)
    distances = torch.cdist(reduced, known).amin(dim=1) / reduced.shape[1] ** 0.5
    return float(np.median(distances.numpy()))


def coarse(images: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) reduced to `COARSE_SIDE` pixels, as rows of a matrix."""
    return functional.adaptive_avg_pool2d(images, COARSE_SIDE).flatten(1)


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
        figures: Mapping[str, float] = read_json(report)["readiness"]
        if not figures["ready"]:
            known = {part.name: figures[part.name] for part in fields(Readiness)}
            return Readiness(**known).describe()
    return None
