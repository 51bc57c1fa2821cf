"""The state of a training: its networks and optimizer, how they start, and how they are saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.dataset import DiffusionImages
from sia_gen.diffusion.memory import prepare_norms
from sia_gen.diffusion.readiness import Readiness
from sia_gen.errors import ModelError
from sia_gen.io.files import read_json
from sia_gen.networks.unet import build_unet, check_size
from sia_gen.sdas.loading import REPORT, check_network, load_pipeline, number_categories
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.train.loop import save_model


def _num_classes(recipe: Recipe) -> int | None:
    return len(recipe.categories) if recipe.diffusion.joint else None


def planned_network(recipe: Recipe) -> UNet2DModel:
    """Returns the network to train on the meta device: a preset, or the checked one in `init`."""
    settings, num_classes = recipe.diffusion, _num_classes(recipe)
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


def initial_model(recipe: Recipe) -> tuple[UNet2DModel, PerturbedDDPMScheduler]:
    """Returns the planned network with random weights or those in `init`, and its scheduler."""
    settings = recipe.diffusion
    if settings.init is None:
        unet = build_unet(settings, len(recipe.mode), _num_classes(recipe))
        return unet, scheduler_for(unet)
    pipeline = load_pipeline(Path(settings.init), recipe)
    pipeline.unet.register_to_config(sample_size=settings.image_size)
    return pipeline.unet, pipeline.scheduler


def scheduler_for(unet: UNet2DModel, beta_schedule: str = "linear") -> PerturbedDDPMScheduler:
    """Returns the paper's scheduler, with a learned variance if the network predicts it."""
    learned = unet.config.out_channels == 2 * unet.config.in_channels
    return PerturbedDDPMScheduler(
        beta_schedule=beta_schedule,
        timestep_spacing="leading",
        variance_type="learned_range" if learned else "fixed_small",
    )


def make_optimizer(unet: UNet2DModel, settings: Diffusion) -> torch.optim.Optimizer:
    """Returns the optimizer of a recipe."""
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(unet.parameters(), lr=settings.learning_rate)
    return torch.optim.Adam(unet.parameters(), lr=settings.learning_rate)


class TrainingState:
    """A model in training; the parts that change are registered with the accelerator."""

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        images: DiffusionImages,
        out: Path,
        accelerator: Accelerator,
    ) -> None:
        settings = recipe.diffusion
        self.recipe, self.name, self.images, self.out = recipe, name, images, out
        self.accelerator = accelerator
        self.categories = recipe.categories if settings.joint else [name]
        unet, self.scheduler = initial_model(recipe)
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        prepare_norms(unet, accelerator.device.type, accelerator.mixed_precision)
        optimizer = make_optimizer(unet, settings)
        self.unet, self.optimizer = accelerator.prepare(unet, optimizer)
        decay = settings.ema_decay
        # min_decay keeps the decay constant, as in the paper; diffusers would ramp it up.
        self.ema = EMAModel(self.unet.parameters(), decay=decay, min_decay=decay)
        accelerator.register_for_checkpointing(self.ema)

    @contextmanager
    def averaged(self) -> Iterator[SDASPipeline]:
        """Yields a pipeline with the averaged weights, and restores those of the network."""
        unet = self.accelerator.unwrap_model(self.unet)
        self.ema.store(unet.parameters())
        self.ema.copy_to(unet.parameters())
        unet.eval()
        labels = number_categories(self.categories) if self.recipe.diffusion.joint else None
        pipeline = SDASPipeline(unet, self.scheduler, id2label=labels)
        pipeline.set_progress_bar_config(disable=True)
        try:
            yield pipeline
        finally:
            self.ema.restore(unet.parameters())
            unet.train()

    def save(self, step: int, readiness: Readiness | None) -> None:
        """Saves the averaged model with its recipe and report, whole or not at all."""
        if self.accelerator.is_main_process:
            report = {
                "steps": step,
                "categories": self.categories,
                "images": len(self.images.fit),
                "unreadable": self.images.unreadable,
                "seed": self.recipe.seed,
                "precision": self.accelerator.mixed_precision,
                "processes": self.accelerator.num_processes,
                "readiness": None if readiness is None else readiness.to_json(),
            }
            with self.averaged() as pipeline:
                checkpoints = self.out / "checkpoints" / self.name
                save_model(self.out / self.name, pipeline, self.recipe, REPORT, report, checkpoints)
        self.accelerator.wait_for_everyone()


def is_finished(folder: Path, step: int) -> bool:
    """Returns whether the model of a step has been saved, with its readiness."""
    try:
        report = read_json(folder / REPORT)
        return bool(report["steps"] == step and report["readiness"] is not None)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return False
