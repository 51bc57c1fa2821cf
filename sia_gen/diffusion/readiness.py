"""Readiness: whether a model has learnt enough, in figures and in words.

"My samples are only noise" has two causes: a model that is not finished, or too much strength. Two
figures of a model tell them apart before any strength is chosen:

- the noise left in its samples of strength 0, against that in real images;
- the error with which it finds back to real images it has not seen, after DDIM inversion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve

# The second derivative across both axes: blind to anything smooth, and to edges (Immerkaer, 1996).
LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1])
MOST_NOISE = 1.5
LARGEST_ERROR = 0.05


@dataclass(frozen=True)
class Readiness:
    """How far a model has come.

    Attributes:
        noise_of_samples: Standard deviation of the finest detail in samples of strength 0, pixels
            in [0, 1].
        noise_of_images: Likewise, in real normal images.
        reconstruction_error: Root mean square difference between normal images kept back and their
            reconstructions after DDIM inversion, pixels in [0, 1].
    """

    noise_of_samples: float
    noise_of_images: float
    reconstruction_error: float

    @property
    def noise_ratio(self) -> float:
        """How much more noise samples have than images; images without any count as 1/255."""
        return self.noise_of_samples / max(self.noise_of_images, 1 / 255)

    @property
    def ready(self) -> bool:
        """Whether the model is fit to synthesise with."""
        return self.noise_ratio <= MOST_NOISE and self.reconstruction_error <= LARGEST_ERROR

    def describe(self) -> str:
        """What the figures mean, one sentence."""
        figures = (
            f"samples of strength 0 have {self.noise_ratio:.1f} times the noise of real images, "
            f"reconstructions are off by {self.reconstruction_error:.3f}"
        )
        if self.ready:
            return f"ready: {figures}"
        return (
            f"not ready: {figures}; more than {MOST_NOISE} or {LARGEST_ERROR} means that the model "
            "needs more training, whatever the strength"
        )

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        return {**asdict(self), "noise_ratio": self.noise_ratio}

    def to_json(self) -> dict[str, float | bool]:
        """The figures and the verdict."""
        return {**self.figures(), "ready": self.ready}


def measure_readiness(
    samples: torch.Tensor, images: torch.Tensor, reconstructions: torch.Tensor
) -> Readiness:
    """Compares samples of strength 0 and reconstructions of real images with the real images.

    All are (B, C, H, W) in [0, 1]; there may be another number of samples.
    """
    difference = (images - reconstructions.clamp(0, 1)).square()
    return Readiness(
        noise_of_samples=noise_level(samples.cpu().numpy()),
        noise_of_images=noise_level(images.cpu().numpy()),
        reconstruction_error=float(difference.mean().sqrt()),
    )


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
    if not report.is_file():
        return None
    figures: Mapping[str, float] | None = json.loads(report.read_text()).get("readiness")
    if figures is None or figures["ready"]:
        return None
    names = ("noise_of_samples", "noise_of_images", "reconstruction_error")
    return Readiness(**{name: figures[name] for name in names}).describe()
