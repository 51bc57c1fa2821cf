"""The training loss of a DDPM: noise prediction, and with a learned variance also the bound.

The hybrid loss is that of improved DDPM (Nichol and Dhariwal, 2021, arXiv 2102.09672, section 3.1),
which ADM and RealNet use: the mean squared error of the noise plus the variational lower bound in
bits per dimension. The bound does not train the mean, only the variance.
"""

import math

import torch
from torch.nn import functional

from sia_gen.diffusion.dataset import NoiseBatch

# Half the distance between two of the 256 levels of a pixel in [-1, 1].
HALF_BIN = 1 / 255
SMALLEST_PROBABILITY = 1e-12


class DiffusionSchedule:
    """Tables (T, 1, 1, 1), float32, of a schedule of T steps with the variances `betas` (T,)."""

    def __init__(self, betas: torch.Tensor, device: torch.device) -> None:
        # So that the values at timesteps (B,) fit images (B, C, H, W).
        betas = betas.double()[:, None, None, None]
        alphas_cumprod = (1 - betas).cumprod(0)
        previous = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])
        variance = betas * (1 - previous) / (1 - alphas_cumprod)
        # The posterior of the first step has no variance, so it takes that of the second.
        log_variance = torch.cat([variance[1:2], variance[1:]]).log()
        x0_coefficient = betas * previous.sqrt() / (1 - alphas_cumprod)
        xt_coefficient = (1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod)
        self.posterior_log_variance = log_variance.float().to(device)
        self.log_betas = betas.log().float().to(device)
        self.x0_coefficient = x0_coefficient.float().to(device)
        self.xt_coefficient = xt_coefficient.float().to(device)
        self.sqrt_alphas_cumprod = alphas_cumprod.sqrt().float().to(device)
        self.sqrt_one_minus_alphas_cumprod = (1 - alphas_cumprod).sqrt().float().to(device)

    def posterior_mean(
        self, x0: torch.Tensor, xt: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mean of q(x_{t-1} | x_t, x_0), (B, C, H, W)."""
        return self.x0_coefficient[timesteps] * x0 + self.xt_coefficient[timesteps] * xt


def denoising_loss(
    output: torch.Tensor, noisy: torch.Tensor, batch: NoiseBatch, schedule: DiffusionSchedule
) -> torch.Tensor:
    """Returns the loss of a batch, a scalar.

    `output` is what the UNet returns for the `noisy` images, float32: the noise (B, C, H, W), or
    with a learned variance (B, 2C, H, W), whose second half places the log variance between its
    bounds.
    """
    channels = noisy.shape[1]
    predicted_noise, fraction = output[:, :channels], output[:, channels:]
    mean_squared_error = functional.mse_loss(predicted_noise, batch.noise)
    if output.shape[1] == channels:
        return mean_squared_error
    bound = variational_bound(
        predicted_noise.detach(), fraction, batch.images, noisy, batch.timesteps, schedule
    )
    return mean_squared_error + bound.mean()


def variational_bound(
    predicted_noise: torch.Tensor,
    fraction: torch.Tensor,
    x0: torch.Tensor,
    xt: torch.Tensor,
    timesteps: torch.Tensor,
    schedule: DiffusionSchedule,
) -> torch.Tensor:
    """Returns the variational bound at the timestep of each image, (B,), bits per dimension.

    It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and at t = 0 the negative log-likelihood of
    the pixels. `fraction` is -1 at the smallest variance and 1 at the largest.
    """
    smallest = schedule.posterior_log_variance[timesteps]
    largest = schedule.log_betas[timesteps]
    log_variance = smallest + (fraction + 1) / 2 * (largest - smallest)
    scaled_noise = schedule.sqrt_one_minus_alphas_cumprod[timesteps] * predicted_noise
    predicted_x0 = (xt - scaled_noise) / schedule.sqrt_alphas_cumprod[timesteps]
    mean = schedule.posterior_mean(predicted_x0, xt, timesteps)
    true_mean = schedule.posterior_mean(x0, xt, timesteps)
    divergence = normal_kl(true_mean, smallest, mean, log_variance)
    likelihood = discretized_log_likelihood(x0, mean, log_variance / 2)
    first = (timesteps == 0)[:, None, None, None]
    return torch.where(first, -likelihood, divergence).mean(dim=(1, 2, 3)) / math.log(2)


def normal_kl(
    mean1: torch.Tensor,
    log_variance1: torch.Tensor,
    mean2: torch.Tensor,
    log_variance2: torch.Tensor,
) -> torch.Tensor:
    """Returns KL(N(mean1, variance1) || N(mean2, variance2)), elementwise, nats."""
    difference = log_variance2 - log_variance1
    distance = (mean1 - mean2).square() * torch.exp(-log_variance2)
    return 0.5 * (difference + torch.exp(-difference) + distance - 1)


def discretized_log_likelihood(
    x: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
) -> torch.Tensor:
    """Returns the log-probability of 8-bit pixels `x` in [-1, 1], elementwise, nats.

    The normal distribution is cut into the 256 bins of a pixel; the outer two are infinite.
    """
    inverse_std = torch.exp(-log_std)
    above = torch.special.ndtr((x - mean + HALF_BIN) * inverse_std)
    below = torch.special.ndtr((x - mean - HALF_BIN) * inverse_std)
    above = torch.where(x > 0.999, torch.ones_like(above), above)
    below = torch.where(x < -0.999, torch.zeros_like(below), below)
    return (above - below).clamp(min=SMALLEST_PROBABILITY).log()
