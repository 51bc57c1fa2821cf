from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sia_gen.sdas.denoising import invert, reconstruct
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

MEAN, STD = 0.2, 0.3
SCHEDULER = PerturbedDDPMScheduler(timestep_spacing="leading")
CUMULATED = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


class GaussianModel(nn.Module):
    """Predicts the noise exactly, for images of independent pixels N(MEAN, STD**2)."""

    dtype = torch.float32

    def __init__(self, channels_out: int = 1) -> None:
        super().__init__()
        self.channels_out = channels_out

    def forward(self, x: torch.Tensor, t: torch.Tensor, class_labels: object) -> SimpleNamespace:
        kept = float(CUMULATED[int(t)])
        variance = kept * STD**2 + 1 - kept
        noise = (1 - kept) ** 0.5 * (x - kept**0.5 * MEAN) / variance
        return SimpleNamespace(sample=noise.repeat(1, self.channels_out, 1, 1))


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return MEAN + STD * torch.randn(4, 1, 16, 16, generator=generator)


@pytest.mark.parametrize("channels_out", [1, 2])
def test_inverted_images_of_the_model_are_standard_normal(channels_out: int) -> None:
    noise = invert(GaussianModel(channels_out), SCHEDULER, images(), 100)
    # The probability flow maps quantiles to quantiles; steps of 10 leave a few per cent.
    expected = (images() - MEAN) / STD
    assert (noise - expected).abs().mean() < 0.08
    assert noise.std().item() == pytest.approx(1, abs=0.06)


def test_reconstruction_finds_back_the_better_the_more_steps() -> None:
    model = GaussianModel()
    errors = []
    for steps in (10, 50, 250):
        noise = invert(model, SCHEDULER, images(), steps)
        found = reconstruct(model, SCHEDULER, noise, steps)
        errors.append((found - images()).abs().mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_reconstruction_is_ddim_of_the_definition() -> None:
    model, steps = GaussianModel(), 20
    sample = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = sample.double().numpy()
    for t in range(950, -1, -50):
        noise = model(torch.from_numpy(expected), torch.tensor(t), None).sample.numpy()
        x0 = (expected - np.sqrt(1 - CUMULATED[t]) * noise) / np.sqrt(CUMULATED[t])
        kept = CUMULATED[t - 50] if t >= 50 else 1.0
        expected = np.sqrt(kept) * x0 + np.sqrt(1 - kept) * noise
    found = reconstruct(model, SCHEDULER, sample, steps)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
