"""The respaced DDPM from its definition, in float64 NumPy (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KEPT = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


@dataclass(frozen=True)
class ReverseStep:
    """The distribution of the sample before, given the one at `timestep`; arrays (B, C, H, W)."""

    mean: Array
    variance: Array

    def draw(self, noise: Array, strength: Array) -> Array:
        """A sample of the perturbed step, for strengths (B, 1, 1, 1)."""
        return self.mean + np.sqrt((1 + strength) * self.variance) * noise


def reverse_step(
    output: Array, timestep: int, sample: Array, variance_type: str, spacing: int = 50
) -> ReverseStep:
    """One step from `timestep` to `timestep - spacing`, the last one to the image itself."""
    channels = sample.shape[1]
    kept = KEPT[timestep]
    kept_before = KEPT[timestep - spacing] if timestep >= spacing else 1.0
    alpha = kept / kept_before
    beta = 1 - alpha
    image = (sample - np.sqrt(1 - kept) * output[:, :channels]) / np.sqrt(kept)
    image = image.clip(-1, 1)
    mean = (np.sqrt(kept_before) * beta * image + np.sqrt(alpha) * (1 - kept_before) * sample) / (
        1 - kept
    )
    smallest = max((1 - kept_before) / (1 - kept) * beta, 1e-20)
    if variance_type == "learned_range":
        share = (output[:, channels:] + 1) / 2
        variance = np.exp(share * np.log(beta) + (1 - share) * np.log(smallest))
    else:
        variance = np.full_like(sample, smallest if variance_type == "fixed_small" else beta)
    return ReverseStep(mean, variance)
