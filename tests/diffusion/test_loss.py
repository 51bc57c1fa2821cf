from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from sia_gen.diffusion.dataset import NoiseBatch
from sia_gen.diffusion.loss import (
    DiffusionSchedule,
    denoising_loss,
    discretized_log_likelihood,
    normal_kl,
    variational_bound,
)
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

BETAS = torch.linspace(1e-4, 0.02, 1000)
SCHEDULE = DiffusionSchedule(BETAS, torch.device("cpu"))
TIMESTEPS = torch.tensor([0, 1, 2, 50, 500, 999])


def posterior_by_bayes(x0: float, xt: float, t: int) -> tuple[float, float]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), from the two densities it is the product of."""
    betas = np.linspace(1e-4, 0.02, 1000)
    previous = np.prod(1 - betas[:t])
    prior_mean, prior_variance = math.sqrt(previous) * x0, 1 - previous
    slope, noise = math.sqrt(1 - betas[t]), betas[t]
    precision = 1 / prior_variance + slope**2 / noise
    return (prior_mean / prior_variance + slope * xt / noise) / precision, 1 / precision


@pytest.mark.parametrize("t", [1, 2, 50, 500, 999])
def test_posterior_is_the_product_of_the_forward_densities(t: int) -> None:
    x0, xt, timestep = torch.tensor([0.3]), torch.tensor([-0.8]), torch.tensor([t])
    mean, variance = posterior_by_bayes(0.3, -0.8, t)
    found = SCHEDULE.posterior_mean(x0, xt, timestep)
    assert found.item() == pytest.approx(mean, rel=1e-5)
    log_variance = SCHEDULE.posterior_log_variance[timestep]
    assert log_variance.item() == pytest.approx(math.log(variance), rel=1e-5)


def test_first_step_borrows_the_variance_of_the_second() -> None:
    assert SCHEDULE.posterior_log_variance[0] == SCHEDULE.posterior_log_variance[1]


@given(st.floats(-2, 2), st.floats(-5, 1), st.floats(-2, 2), st.floats(-5, 1))
def test_normal_kl_is_that_of_gaussians(m1: float, v1: float, m2: float, v2: float) -> None:
    values = torch.tensor([m1, v1, m2, v2], dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(values[0], (values[1] / 2).exp()),
        torch.distributions.Normal(values[2], (values[3] / 2).exp()),
    )
    assert normal_kl(*values).item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


def test_normal_kl_is_the_integral_it_stands_for() -> None:
    first, second = stats.norm(0.2, math.exp(-0.5)), stats.norm(-0.3, math.exp(0.25))
    expected, _ = integrate.quad(
        lambda x: first.pdf(x) * (first.logpdf(x) - second.logpdf(x)), -10, 10
    )
    found = normal_kl(*torch.tensor([0.2, -1.0, -0.3, 0.5], dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (0.9, -2.0), (-1.2, 0.5), (0.1, -4.5)])
def test_discretized_likelihoods_of_all_256_levels_sum_to_one(mean: float, log_std: float) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    found = discretized_log_likelihood(
        levels, torch.full_like(levels, mean), torch.full_like(levels, log_std)
    )
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("level", [0, 1, 100, 254, 255])
def test_discretized_likelihood_is_the_mass_of_the_bin(level: int) -> None:
    x, mean, std = level / 127.5 - 1, 0.1, 0.4
    lower = -math.inf if level == 0 else x - 1 / 255
    upper = math.inf if level == 255 else x + 1 / 255
    expected = math.log(stats.norm.cdf(upper, mean, std) - stats.norm.cdf(lower, mean, std))
    values = torch.tensor([x, mean, math.log(std)], dtype=torch.float64)
    assert discretized_log_likelihood(*values).item() == pytest.approx(expected, rel=1e-9)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_0 of whole pixel levels, noise, and x_t."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (len(TIMESTEPS), 2, 4, 4), generator=generator)
    x0 = levels.float() / 127.5 - 1
    noise = torch.randn(x0.shape, generator=generator)
    scheduler = PerturbedDDPMScheduler()
    return x0, noise, scheduler.add_noise(x0, noise, TIMESTEPS)


def bound_by_definition(
    x0: torch.Tensor, xt: torch.Tensor, noise: torch.Tensor, fraction: torch.Tensor
) -> list[float]:
    """The bound of each image in bits per dimension, pixel by pixel in float64."""
    betas = np.linspace(1e-4, 0.02, 1000)
    cumulated = np.cumprod(1 - betas)
    bounds = []
    for image, t in enumerate(TIMESTEPS.tolist()):
        terms = []
        smallest = posterior_by_bayes(0, 0, max(t, 1))[1]
        pixels = zip(
            *(part[image].double().flatten().tolist() for part in (x0, xt, noise, fraction)),
            strict=True,
        )
        for pixel, noisy, predicted, share in pixels:
            variance = math.exp(
                (1 + share) / 2 * math.log(betas[t]) + (1 - share) / 2 * math.log(smallest)
            )
            guess = (noisy - math.sqrt(1 - cumulated[t]) * predicted) / math.sqrt(cumulated[t])
            if t == 0:
                bin_of = stats.norm(guess, math.sqrt(variance)).cdf
                lower = 0.0 if pixel < -0.999 else bin_of(pixel - 1 / 255)
                upper = 1.0 if pixel > 0.999 else bin_of(pixel + 1 / 255)
                terms.append(-math.log(max(upper - lower, 1e-12)))
                continue
            mean, true_variance = posterior_by_bayes(pixel, noisy, t)
            model_mean, _ = posterior_by_bayes(guess, noisy, t)
            ratio = true_variance / variance
            distance = (mean - model_mean) ** 2 / variance
            terms.append(0.5 * (ratio + distance - 1 - math.log(ratio)))
        bounds.append(sum(terms) / len(terms) / math.log(2))
    return bounds


def test_bound_is_that_of_the_definition() -> None:
    x0, noise, xt = batch()
    generator = torch.Generator().manual_seed(1)
    predicted = noise + 0.02 * torch.randn(noise.shape, generator=generator)
    fraction = torch.rand(noise.shape, generator=generator) * 2 - 1
    found = variational_bound(predicted, fraction, x0, xt, TIMESTEPS, SCHEDULE)
    expected = bound_by_definition(x0, xt, predicted, fraction)
    # float32 loses digits where the posterior is narrow: at the first timesteps.
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=1e-5)


def test_bound_is_zero_for_the_true_posterior() -> None:
    x0, noise, xt = batch()
    found = variational_bound(noise, -torch.ones_like(noise), x0, xt, TIMESTEPS, SCHEDULE)
    assert found[1:].abs().max() < 1e-5


def test_bound_teaches_the_variance_alone_and_the_error_the_noise_alone() -> None:
    x0, noise, xt = batch()
    output = torch.randn(len(x0), 4, 4, 4, generator=torch.Generator().manual_seed(2))
    output.requires_grad_()
    denoising_loss(output, xt, NoiseBatch(x0, noise, TIMESTEPS, TIMESTEPS), SCHEDULE).backward()
    assert output.grad is not None
    error = (2 / noise.numel()) * (output[:, :2] - noise)
    torch.testing.assert_close(output.grad[:, :2], error)

    fraction = output[:, 2:].detach().requires_grad_()
    predicted = output[:, :2].detach()
    variational_bound(predicted, fraction, x0, xt, TIMESTEPS, SCHEDULE).mean().backward()
    torch.testing.assert_close(output.grad[:, 2:], fraction.grad)
    assert output.grad[:, 2:].abs().max() > 0


def test_loss_with_a_learned_variance_is_error_plus_bound() -> None:
    x0, noise, xt = batch()
    output = torch.randn(len(x0), 4, 4, 4, generator=torch.Generator().manual_seed(3))
    error = ((output[:, :2] - noise) ** 2).mean()
    bound = variational_bound(output[:, :2], output[:, 2:], x0, xt, TIMESTEPS, SCHEDULE).mean()
    found = denoising_loss(output, xt, NoiseBatch(x0, noise, TIMESTEPS, TIMESTEPS), SCHEDULE)
    torch.testing.assert_close(found, error + bound)


def test_loss_with_a_fixed_variance_is_the_error() -> None:
    x0, noise, xt = batch()
    output = torch.zeros_like(noise)
    found = denoising_loss(output, xt, NoiseBatch(x0, noise, TIMESTEPS, TIMESTEPS), SCHEDULE)
    torch.testing.assert_close(found, noise.square().mean())


@pytest.mark.parametrize("share", [-1.0, -0.3, 0.5, 1.0])
def test_learned_variance_is_the_one_the_sampler_uses(share: float) -> None:
    scheduler = PerturbedDDPMScheduler(variance_type="learned_range")
    for t in (1, 7, 500, 999):
        timestep = torch.tensor([t])
        smallest = SCHEDULE.posterior_log_variance[timestep]
        largest = SCHEDULE.log_betas[timestep]
        trained = smallest + (share + 1) / 2 * (largest - smallest)
        sampled = scheduler._get_variance(t, torch.full((1, 1, 1, 1), share))
        torch.testing.assert_close(trained, sampled, rtol=1e-4, atol=1e-4)
