"""What a training starts from: the network, its scheduler, its optimiser and its moving average."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.memory import (
    GIB,
    advice,
    available_memory,
    estimate_memory,
    prepare_norms,
)
from sia_gen.errors import ModelError
from sia_gen.networks.unet import build_unet, check_size
from sia_gen.sdas.loading import check_network, load_pipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler


@dataclass(frozen=True)
class Training:
    """A training that can be checkpointed: all parts are registered with the accelerator."""

    unet: torch.nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMAModel
    scheduler: PerturbedDDPMScheduler


def start_training(recipe: Recipe, num_classes: int | None, accelerator: Accelerator) -> Training:
    """Prepares a training at step 0; see `planned_network` for the errors."""
    settings = recipe.diffusion
    unet, scheduler = initial_model(recipe, num_classes)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    prepare_norms(unet, accelerator.device.type, accelerator.mixed_precision)
    optimizer = make_optimizer(unet, settings)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    # min_decay keeps the decay constant, as in the paper: by default diffusers ramps it up.
    ema = EMAModel(unet.parameters(), decay=settings.ema_decay, min_decay=settings.ema_decay)
    accelerator.register_for_checkpointing(ema)
    return Training(unet, optimizer, ema, scheduler)


def planned_network(recipe: Recipe, num_classes: int | None) -> UNet2DModel:
    """The network of a recipe on the meta device: a preset, or that in `init`, which is checked.

    Raises:
        RecipeError: If the preset does not fit the image size.
        ModelError: If the model to start from is missing, damaged or of other images or classes.
    """
    settings = recipe.diffusion
    if settings.init is None:
        with torch.device("meta"):
            return build_unet(settings, len(recipe.mode), num_classes)
    folder = Path(settings.init)
    unet = check_network(folder, recipe, values=True)
    check_size(settings.image_size, len(unet.config.block_out_channels))
    if unet.config.num_class_embeds != num_classes:
        raise ModelError(
            problem=f"the model in {folder} knows {unet.config.num_class_embeds or 'no'} classes, "
            f"this training has {num_classes or 'none'}.",
            fix="Import it again with 'sia-gen import-adm --new-classes N' for --joint over N "
            "categories, or take a model without classes.",
        )
    unet.register_to_config(sample_size=settings.image_size)
    return unet


def initial_model(
    recipe: Recipe, num_classes: int | None
) -> tuple[UNet2DModel, PerturbedDDPMScheduler]:
    """The planned network with its weights, random ones or those in `init`, and its schedule."""
    settings = recipe.diffusion
    if settings.init is None:
        unet = build_unet(settings, len(recipe.mode), num_classes)
        return unet, scheduler_for(unet)
    pipeline = load_pipeline(Path(settings.init), recipe)
    pipeline.unet.register_to_config(sample_size=settings.image_size)
    return pipeline.unet, pipeline.scheduler


def scheduler_for(unet: UNet2DModel) -> PerturbedDDPMScheduler:
    """The paper's schedule, with the variance learned if the network predicts it."""
    learned = unet.config.out_channels == 2 * unet.config.in_channels
    return PerturbedDDPMScheduler(
        timestep_spacing="leading", variance_type="learned_range" if learned else "fixed_small"
    )


def make_optimizer(unet: UNet2DModel, settings: Diffusion) -> torch.optim.Optimizer:
    """The optimiser of a recipe."""
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(unet.parameters(), lr=settings.learning_rate)
    return torch.optim.Adam(unet.parameters(), lr=settings.learning_rate)


def report_memory(unet: UNet2DModel, settings: Diffusion, accelerator: Accelerator) -> None:
    """Says how much memory a training of a network takes, and what to change if there is less."""
    precision = accelerator.mixed_precision
    estimate = estimate_memory(unet, settings, precision, accelerator.num_processes)
    free = available_memory(accelerator)
    text = f"memory: {estimate.describe()}; {free / GIB:.1f} free"
    if estimate.total > free:
        changes = advice(unet, settings, precision, free)
        text += f". It may not fit; change in the recipe's 'diffusion': {changes}"
    print(text, file=sys.stderr, flush=True)
