"""Spatially correlated noise: fields that turn strength into stains, spots, scratches and cracks.

A network that was trained on few images makes nothing of the paper's white noise: it stays grain.
Noise with a spatial correlation becomes part of the image instead. A step adds

    sigma_t * sqrt(strength) * field

to its own noise. A field is stationary, with mean 0 and variance 1 at every pixel, so that the
noise of a step has the same variance whatever its kind. All are Gaussian but `cracks`: the lines
where a Gaussian field changes its sign. A sample keeps its field in all steps, which makes its
anomaly coherent and about ten times as strong. The paper's kind, `white`, has no field: every step
draws its noise anew.

A photograph that was stretched to a square shows its defects stretched as well, so its field is
drawn in the form that the photograph had: `pixel_aspect_ratio`, the width of what a pixel shows by
its height, is that of the photograph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import max_pool2d

from sia_gen.config.strength import WHITE, require_perturbation
from sia_gen.sdas.scheduler import send

Generators = torch.Generator | list[torch.Generator]

# Correlation lengths, as shares of the shorter side: the covariance of pixels at a distance r is
# exp(-r**2 / (2 * length**2)).
BLOB_LENGTHS = (0.02, 0.13)
STREAK_LENGTHS = (0.15, 0.4)
# How many times longer than wide streaks are.
STREAK_ASPECTS = (10.0, 30.0)
# Correlation lengths of the fields that cracks follow, and standard deviations across a crack.
CRACK_LENGTHS = (0.06, 0.25)
CRACK_WIDTHS = (0.008, 0.02)
# Width of the seam around an edited piece, as a share of the side.
SEAM = 1 / 64
# Correlation between the channels of a pixel: stains change brightness more than hue.
CHANNEL_CORRELATION = 0.9


@dataclass(frozen=True)
class Disturbance:
    """What the steps add to the samples of a batch beside their own noise."""

    # Of all samples, (B,) or (B, 1, H, W), on the CPU.
    strength: torch.Tensor
    # Of white samples, 0 for the others.
    white_strength: torch.Tensor
    # sqrt(strength) * field, (B, C, H, W), 0 for white samples; None if all are white.
    fields: torch.Tensor | None
    # Where samples start from an edited photograph, (B, 1, H, W), bool; None if from the twin's.
    edited: torch.Tensor | None = None

    @classmethod
    def draw(
        cls,
        kinds: Sequence[str],
        strength: torch.Tensor,
        shape: Sequence[int],
        generator: Generators | None,
        device: torch.device,
        pixel_aspect_ratios: Sequence[float],
    ) -> Disturbance:
        """Draws the fields of samples (B, C, H, W), of a kind each; see `field_seeds`."""
        if all(kind == WHITE for kind in kinds):
            return cls(strength, strength, None)
        seeds = field_seeds(generator, len(kinds))
        fields = draw_fields(kinds, shape[1:], seeds, device, pixel_aspect_ratios)
        scale = strength if strength.ndim == 4 else strength.view(-1, 1, 1, 1)
        white = torch.tensor([kind == WHITE for kind in kinds])
        return cls(
            strength,
            strength * (white if strength.ndim == 1 else white.view(-1, 1, 1, 1)),
            send(scale.sqrt(), device) * fields,
        )


def edited_region(photographs: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    """Returns where photographs (B, C, H, W) were edited and what is near it, (B, 1, H, W), bool.

    The margin leaves room for seams to heal.
    """
    differs = (photographs != originals).any(dim=1, keepdim=True).float()
    margin = max(1, round(SEAM * photographs.shape[-1]))
    return max_pool2d(differs, 2 * margin + 1, stride=1, padding=margin) > 0


def field_seeds(generator: Generators | None, num_images: int) -> list[int]:
    """Returns the seed of each field, which follows from the generators but does not change them.

    The noise of a sample is therefore the same whatever its kind. Without generators, torch's own
    draws the seeds.
    """
    if generator is None:
        return torch.randint(2**53, (num_images,)).tolist()
    if isinstance(generator, list):
        return [seed for one in generator for seed in field_seeds(one, 1)]
    state = generator.clone_state()
    return torch.randint(2**53, (num_images,), generator=state, device=state.device).tolist()


def draw_fields(
    kinds: Sequence[str],
    shape: Sequence[int],
    seeds: Sequence[int],
    device: torch.device,
    pixel_aspect_ratios: Sequence[float] | None = None,
) -> torch.Tensor:
    """Draws the field of each sample, (B, C, H, W), float32, from its kind and seed.

    The field of a `white` sample is zero everywhere. `shape` is (C, H, W); pixels are square unless
    there are aspect ratios, one per sample.
    """
    ratios = pixel_aspect_ratios or [1.0] * len(kinds)
    noise = torch.zeros(len(kinds), *shape)
    amplitudes = torch.zeros(len(kinds), *shape[-2:])
    numbers = torch.zeros(len(kinds), 3)
    for place, (kind, seed, ratio) in enumerate(zip(kinds, seeds, ratios, strict=True)):
        if require_perturbation(kind) != WHITE:
            generator = torch.Generator().manual_seed(seed)
            noise[place] = torch.randn(tuple(shape), generator=generator)
            numbers[place] = torch.rand(3, generator=generator)
            amplitudes[place] = _amplitudes(kind, shape[-2:], numbers[place], ratio)
    noise = torch.einsum("dc,bchw->bdhw", _channel_mixing(shape[0]), noise)
    fields = filtered(send(noise, device), send(amplitudes[:, None], device))
    for place, kind in enumerate(kinds):
        if kind == "cracks":
            fields[place] = _cracks(fields[place, 0], numbers[place])
    return fields


def filtered(noise: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
    """Multiplies the spectrum of noise (..., H, W) by amplitudes, which are those of `fft2`."""
    width = noise.shape[-1]
    spectrum = torch.fft.rfft2(noise) * amplitudes[..., : width // 2 + 1]
    fields: torch.Tensor = torch.fft.irfft2(spectrum, s=noise.shape[-2:])
    return fields


def _amplitudes(
    kind: str, size: Sequence[int], numbers: torch.Tensor, pixel_aspect_ratio: float
) -> torch.Tensor:
    """Returns the amplitudes of a kind, (H, W), for three random numbers in [0, 1).

    Their squares have the mean 1, which is the variance of the field.
    """
    # In cycles per side, the shorter one of a photograph, so that a kind looks alike at any size.
    y, x = (torch.fft.fftfreq(side) * min(size) for side in size)
    y = y[:, None] * min(1.0, pixel_aspect_ratio)
    x = x * min(1.0, 1 / pixel_aspect_ratio)
    how_long, how_thin, how_turned = numbers.tolist()
    if kind == "pink":
        amplitudes = 1 / torch.hypot(y, x).clamp(min=1e-6)
    elif kind == "blobs":
        length = _log_uniform(BLOB_LENGTHS, how_long)
        amplitudes = torch.exp(-((math.pi * length) ** 2) * (y**2 + x**2))
    elif kind == "cracks":
        # Has slopes but hardly curvatures, so that its lines are rough (Matern, smoothness 3).
        length = _log_uniform(CRACK_LENGTHS, how_long)
        amplitudes = (1 + (2 * math.pi * length) ** 2 * (y**2 + x**2)) ** -2
    else:
        length, angle = _log_uniform(STREAK_LENGTHS, how_long), math.pi * how_turned
        width = length / _log_uniform(STREAK_ASPECTS, how_thin)
        along = length * (x * math.cos(angle) + y * math.sin(angle))
        across = width * (y * math.cos(angle) - x * math.sin(angle))
        amplitudes = torch.exp(-(math.pi**2) * (along**2 + across**2))
    # Real fields need equal amplitudes at opposite frequencies. At an even size the highest
    # frequency is its own opposite, where slanted streaks would differ.
    amplitudes = (amplitudes + amplitudes.flip(0, 1).roll((1, 1), (0, 1))) / 2
    # The mean of a field is the brightness of the whole image, which is no anomaly.
    amplitudes[0, 0] = 0
    return amplitudes / amplitudes.square().mean().sqrt()


def _cracks(field: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Returns the lines where a field (H, W) changes its sign, all bright or all dark, (H, W).

    A line fades where the field is flat, so that cracks begin and end.
    """
    _, how_wide, how_bright = numbers.tolist()
    # Of the picture, whatever shape the photograph had: thinner lines would fall between pixels.
    width = _log_uniform(CRACK_WIDTHS, how_wide) * min(field.shape)
    slopes = [(field.roll(-1, axis) - field.roll(1, axis)) / 2 for axis in (0, 1)]
    steepness = slopes[0].square() + slopes[1].square()
    # The squared distance from the line, if the slope is the same on the way to it.
    distance = field.square() / steepness.clamp(min=1e-12)
    fading = steepness / (steepness + steepness.mean())
    lines = torch.exp(-distance / (2 * width**2)) * fading
    lines = lines - lines.mean()
    return lines / lines.square().mean().sqrt() * (1 if how_bright < 0.5 else -1)


def _log_uniform(bounds: tuple[float, float], fraction: float) -> float:
    low, high = bounds
    return low * float((high / low) ** fraction)


def _channel_mixing(channels: int) -> torch.Tensor:
    """Returns a matrix that correlates independent channels and keeps their variance."""
    correlation = torch.full((channels, channels), CHANNEL_CORRELATION).fill_diagonal_(1)
    mixing: torch.Tensor = torch.linalg.cholesky(correlation)
    return mixing
