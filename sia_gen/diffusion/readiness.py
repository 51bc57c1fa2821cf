"""Readiness: whether a model has learned enough, in figures and in words.

Samples that look like noise have two causes: an unfinished model, or too much strength. Three
figures of a model tell them apart before any strength is chosen, each relative to the images:

- the noise in samples of strength 0, compared with real images;
- the error of reconstructing unseen images after DDIM inversion, compared with their distance from
  the nearest training image: a model that only knows its training images is off by as much;
- the coarse distance of samples from the nearest training image, compared with that of unseen
  images. A model learns textures long before it knows where the parts belong.

The limits were found on one data set, the grey cells of ELPV, and are untried on others. On
textures the noise says little: the figure takes their finest detail for noise.
"""

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

from sia_gen.images.by_number import Images
from sia_gen.io.files import read_json
from sia_gen.train.batches import batches_of

# The second derivative along both axes, which ignores smooth areas and edges (Immerkaer, 1996).
LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1])
# These separate models of ELPV whose samples looked like cells from models whose samples did not:
# at 128 pixels their error ratios were 0.4, and 0.8 and more.
LIMITS = {"noise_ratio": 1.5, "distance_ratio": 2.5, "error_ratio": 0.6}
LIMITS_FROM = "grey solar cells (ELPV) at 64 and 128 pixels, untried on other images"
# One grey level, below which differences do not show; the noise of ELPV is less.
SMALLEST = 1 / 255
# Side in pixels that shows where things are, but no texture.
COARSE_SIDE = 16
IMAGES_AT_A_TIME = 64


@dataclass(frozen=True)
class Readiness:
    """How far a model has come, for pixels in [0, 1].

    Noise is the standard deviation of the finest detail; errors, distances and differences are root
    mean squares. Samples have strength 0, and images are normal ones that were held out.
    """

    noise_of_samples: float
    noise_of_images: float
    reconstruction_error: float  # of images, after DDIM inversion
    distance_of_samples: float  # from the nearest training image at `COARSE_SIDE` pixels, median
    distance_of_images: float
    difference_of_images: float  # from the nearest training image, at full size
    samples: int  # number of samples, and largest number of images

    @property
    def ratios(self) -> dict[str, float]:
        """The figures of the model in units of those of the images."""
        pairs = {
            "noise_ratio": (self.noise_of_samples, self.noise_of_images),
            "distance_ratio": (self.distance_of_samples, self.distance_of_images),
            "error_ratio": (self.reconstruction_error, self.difference_of_images),
        }
        return {name: value / max(unit, SMALLEST) for name, (value, unit) in pairs.items()}

    @property
    def ready(self) -> bool:
        """Whether the model is good enough to synthesise with."""
        return all(self.ratios[name] <= limit for name, limit in LIMITS.items())

    def describe(self) -> str:
        """Returns one sentence with the verdict and the figures."""
        noise, distance, error = self.ratios.values()
        most_noise, largest_distance, largest_error = LIMITS.values()
        verdict = "ready" if self.ready else "not ready, it needs more training"
        return (
            f"{verdict}: samples of strength 0 have {noise:.1f} times the noise of real images "
            f"(at most {most_noise}) and {distance:.1f} times their distance from the training "
            f"images ({largest_distance}), reconstructions are {error:.2f} times as far off as the "
            f"nearest of these ({largest_error}); limits from {LIMITS_FROM}"
        )

    def figures(self) -> dict[str, float]:
        """Returns all figures by name."""
        return asdict(self) | self.ratios

    def to_json(self) -> dict[str, object]:
        """Returns the figures, the verdict, and its limits."""
        return {**self.figures(), "ready": self.ready, "limits": {**LIMITS, "from": LIMITS_FROM}}


def measure_readiness(
    samples: torch.Tensor,
    images: torch.Tensor,
    reconstructions: torch.Tensor,
    training_images: Images,
) -> Readiness:
    """Measures readiness by samples of strength 0, images held out, and their reconstructions.

    All are (B, C, H, W) in [0, 1].
    """
    # An inversion that overflows counts as the largest difference.
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
    """Returns the root mean square difference of images from the nearest training image, (B,) each.

    A query has images (B, C, H, W) in [0, 1], and the side in pixels to which they and the training
    images are reduced by averaging. Each training image is read once.
    """
    ours = [_reduced(images, side) for images, side in queries]
    least = [torch.full((len(one),), torch.inf) for one in ours]
    for indices in batches_of(len(training_images), IMAGES_AT_A_TIME):
        part = torch.from_numpy(np.stack([training_images[index] for index in indices])) / 255
        for place, (_, side) in enumerate(queries):
            distances = torch.cdist(ours[place], _reduced(part, side)).amin(dim=1)
            least[place] = torch.minimum(least[place], distances / math.sqrt(ours[place].shape[1]))
    return least


def _reduced(images: torch.Tensor, side: int) -> torch.Tensor:
    return functional.adaptive_avg_pool2d(images, side).flatten(1)


def noise_level(images: NDArray[np.floating]) -> float:
    """Returns the median over images (B, C, H >= 3, W >= 3) of their noise's standard deviation."""
    # At the borders the convolution would use pixels outside of the image.
    detail = convolve(images.astype(np.float64), LAPLACIAN[None, None])
    inside = np.abs(detail)[..., 1:-1, 1:-1]
    per_image = inside.mean(axis=(1, 2, 3)) * np.sqrt(np.pi / 2) / 6
    return float(np.median(per_image))


def unready(report: Path) -> str | None:
    """Returns why the model with this report is not ready; None if it is or nothing is known."""
    # A damaged report counts as none, because the samples show the same.
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        figures = read_json(report)["readiness"]
        if figures is None:
            return "perhaps not ready: its training had no time to measure it"
        if not figures["ready"]:
            names = [field.name for field in fields(Readiness)]
            if not figures.keys() >= set(names):
                return "not ready"
            return Readiness(**{name: figures[name] for name in names}).describe()
    return None
