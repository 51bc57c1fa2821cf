"""DDIM inversion: finds the noise that leads to an image, and the image that noise leads to.

A trained model finds its way back to a real image; users of the paper's code judge convergence by
it. See Song et al., 2021, arXiv 2010.02502, section 4.3.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler, UNet2DModel


def invert(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    images: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
    *,
    until: int | None = None,
) -> torch.Tensor:
    """Returns the noise that leads to `images` (B, C, H, W) in [-1, 1], with a good model N(0, 1).

    Args:
        unet: Predicts the noise; a predicted variance is ignored.
        scheduler: Has the betas of the training.
        images: The images to start from.
        steps: Number of steps from image to noise; more are more exact.
        labels: Class of each image, (B,), for a class-conditional model.
        until: Timestep to stop at on the way to noise; by default the last.
    """
    backwards = DDIMInverseScheduler(**_schedule(scheduler))
    return _follow(unet, backwards, images, steps, labels, until)


def reconstruct(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    noise: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the images (B, C, H, W) that `noise` leads to without chance; see `invert`."""
    return _follow(unet, DDIMScheduler(**_schedule(scheduler)), noise, steps, labels, None)


def _schedule(scheduler: DDPMScheduler) -> dict[str, Any]:
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    return {name: scheduler.config[name] for name in names} | {"clip_sample": False}


@torch.no_grad()
def _follow(
    unet: UNet2DModel,
    scheduler: DDIMScheduler | DDIMInverseScheduler,
    sample: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None,
    until: int | None,
) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        if until is not None and timestep > until:
            break
        output = unet(sample.to(unet.dtype), timestep, class_labels=labels).sample.float()
        noise = output[:, : sample.shape[1]]
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return sample
