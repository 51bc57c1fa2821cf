"""DDIM inversion: the noise that leads to an image, and the image that this noise leads to.

A trained model finds its way back to a real image; users of the paper's code judge convergence by
it. See Song et al., 2021, arXiv 2010.02502, section 4.3.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler, UNet2DModel


@torch.no_grad()
def invert(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    images: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
    *,
    until: int | None = None,
) -> torch.Tensor:
    """The noise that leads to `images` (B, C, H, W) in [-1, 1]; of a good model, standard normal.

    Args:
        unet: Predicts the noise; what it says of the variance is left aside.
        scheduler: Has the betas the model was trained with.
        images: Where to end.
        steps: Steps from image to noise; more are more exact.
        labels: Class of each image, (B,), for a class-conditional model.
        until: The timestep to stop at, on the way to noise; the last if None.
    """
    backwards = DDIMInverseScheduler(**schedule_of(scheduler))
    return follow(unet, backwards, images, steps, labels, until)


@torch.no_grad()
def reconstruct(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    noise: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """The images (B, C, H, W) that `noise` leads to without chance; arguments as for `invert`."""
    return follow(unet, DDIMScheduler(**schedule_of(scheduler)), noise, steps, labels)


def schedule_of(scheduler: DDPMScheduler) -> dict[str, Any]:
    """What the deterministic schedulers share with the one of training."""
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    return {name: scheduler.config[name] for name in names} | {"clip_sample": False}


def follow(
    unet: UNet2DModel,
    scheduler: DDIMScheduler | DDIMInverseScheduler,
    sample: torch.Tensor,
    steps: int,
    labels: torch.Tensor | None,
    until: int | None = None,
) -> torch.Tensor:
    """Takes the steps of a deterministic scheduler, all or those to a timestep."""
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        if until is not None and timestep > until:
            break
        output = unet(sample.to(unet.dtype), timestep, class_labels=labels).sample.float()
        noise = output[:, : sample.shape[1]]
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return sample
