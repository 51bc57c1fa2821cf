"""Trains a DDPM on the normal images of a category and saves it as an SDAS pipeline.

OUT/
    recipe.yaml
    <category>/                 the pipeline with the EMA weights, and training.json
    checkpoints/<category>/     what it takes to go on; see sia_gen.checkpoints
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import Dataset

from sia_gen.batches import BatchOrder, learning_rate_at, load_batches, random_flips
from sia_gen.checkpoints import last_checkpoint, remove_checkpoints, save_checkpoint
from sia_gen.diffusion.unet import build_unet
from sia_gen.files import atomic_folder, write_json
from sia_gen.images.listing import list_images
from sia_gen.images.loading import load_images
from sia_gen.outputs import RECIPE, claim_output
from sia_gen.progress import Progress
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime, environment, loader_workers
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.settings import Diffusion

REPORT = "training.json"


class NormalBatches(Dataset[torch.Tensor]):
    """Item `step` is the batch of that step: normal images (B, C, H, W), float32 in [-1, 1]."""

    def __init__(
        self, images: NDArray[np.uint8], order: BatchOrder, *, horizontal: bool, vertical: bool
    ) -> None:
        self.images = images
        self.order = order
        self.flips = (horizontal, vertical)

    def __getitem__(self, step: int) -> torch.Tensor:
        batch = [
            random_flips(self.images[index], self.order.rng(epoch, index), *self.flips)
            for epoch, index in self.order.positions(step)
        ]
        return torch.from_numpy(np.stack(batch)).float() / 127.5 - 1


def train_diffusion(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    out: Path,
    runtime: Runtime,
    *,
    resume: bool = True,
) -> None:
    """Trains one model per category, one after another.

    Args:
        recipe: Names the data, the network and the budget.
        categories: Those to train.
        root: Folder of the images.
        out: Output folder, see above.
        runtime: Device and precision.
        resume: Whether to go on from the last checkpoint; otherwise training starts again.

    Raises:
        UserError: If the recipe, the images or the output folder do not allow it; nothing has
            been written then.
    """
    settings = recipe.diffusion
    accelerator = runtime.accelerator()
    build_unet(settings.preset, settings.image_size, len(recipe.mode))
    images = {
        category: load_images(
            list_images(recipe, root, category).fit,
            recipe.mode,
            settings.image_size,
            recipe.data.non_square,
        )
        for category in categories
    }
    if accelerator.is_main_process:
        claim_output(out, recipe, ["diffusion"])
    accelerator.wait_for_everyone()
    for category in categories:
        # An accelerator of its own: what is registered for checkpoints cannot be taken back.
        accelerator = runtime.accelerator()
        train_category(recipe, category, images[category], out, accelerator, resume=resume)


def train_category(
    recipe: Recipe,
    category: str,
    images: NDArray[np.uint8],
    out: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
) -> None:
    """Trains the model of one category on `images` (N, C, H, W)."""
    settings = recipe.diffusion
    checkpoints = out / "checkpoints" / category
    if accelerator.is_main_process and not resume:
        remove_checkpoints(checkpoints)
    accelerator.wait_for_everyone()

    set_seed(recipe.seed, device_specific=True)
    scheduler = PerturbedDDPMScheduler(timestep_spacing="leading")
    unet, optimizer, ema = prepare_training(settings, len(recipe.mode), accelerator)
    checkpoint = last_checkpoint(checkpoints)
    start = 0
    if checkpoint is not None:
        path, start = checkpoint
        accelerator.load_state(str(path))

    order = BatchOrder(
        recipe.seed,
        len(images),
        settings.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    batches = NormalBatches(
        images, order, horizontal=settings.horizontal_flip, vertical=settings.vertical_flip
    )
    loader = load_batches(batches, start, settings.max_steps, loader_workers(accelerator))
    title = f"{category}: training the diffusion model"
    visible = accelerator.is_main_process
    with Progress(title, settings.max_steps, done=start, visible=visible) as progress:
        for step, batch in enumerate(loader, start):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            loss = denoising_loss(unet, scheduler, batch.to(accelerator.device))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(unet.parameters())
            progress.advance(note=f"loss {loss.item():.4f}")
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.max_steps:
                save_checkpoint(accelerator, checkpoints, step + 1)

    if accelerator.is_main_process:
        ema.copy_to(unet.parameters())
        pipeline = SDASPipeline(accelerator.unwrap_model(unet), scheduler)
        save_model(pipeline, recipe, len(images), out / category)
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def prepare_training(
    settings: Diffusion, channels: int, accelerator: Accelerator
) -> tuple[UNet2DModel, Any, EMAModel]:
    """The network, its optimiser and its moving average, all of them in every checkpoint."""
    unet = build_unet(settings.preset, settings.image_size, channels)
    optimizer = torch.optim.Adam(unet.parameters(), lr=settings.learning_rate)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    # min_decay keeps the decay constant, as in the paper: by default diffusers ramps it up.
    ema = EMAModel(unet.parameters(), decay=settings.ema_decay, min_decay=settings.ema_decay)
    accelerator.register_for_checkpointing(ema)
    return unet, optimizer, ema


def denoising_loss(
    unet: torch.nn.Module, scheduler: PerturbedDDPMScheduler, images: torch.Tensor
) -> torch.Tensor:
    """The DDPM loss: how well the noise in images (B, C, H, W) in [-1, 1] is predicted."""
    noise = torch.randn_like(images)
    timesteps = torch.randint(
        0, scheduler.config.num_train_timesteps, (len(images),), device=images.device
    )
    predicted = unet(scheduler.add_noise(images, noise, timesteps), timesteps).sample
    return functional.mse_loss(predicted.float(), noise)


def learning_rate(settings: Diffusion, step: int) -> float:
    """The learning rate of a step."""
    return learning_rate_at(
        step,
        settings.learning_rate,
        settings.max_steps,
        settings.warmup_steps,
        settings.decay_from,
    )


def save_model(pipeline: SDASPipeline, recipe: Recipe, num_images: int, folder: Path) -> None:
    """Saves the pipeline with what there is to know about it, whole or not at all."""
    with atomic_folder(folder) as temporary:
        pipeline.save_pretrained(temporary)
        (temporary / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        write_json(
            temporary / REPORT,
            {
                "steps": recipe.diffusion.max_steps,
                "seed": recipe.seed,
                "images": num_images,
                "versions": environment(),
            },
        )
