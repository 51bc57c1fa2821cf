"""Shows and saves what a training has made: always the moving average of the weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages
from sia_gen.diffusion.initial import Training
from sia_gen.diffusion.preview import make_preview
from sia_gen.diffusion.preview_plan import PreviewPlan
from sia_gen.diffusion.readiness import Readiness
from sia_gen.io.files import atomic_folder, atomic_path, write_json
from sia_gen.io.json import read_json
from sia_gen.runtime.device import environment
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import REPORT, number_categories
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.train.logs import TrainingLog


@dataclass(frozen=True)
class TrainedModel:
    """A model in the making.

    Attributes:
        training: Its weights.
        recipe: How it is trained.
        name: The category, or that of joint models.
        categories: What it is trained on; the order gives the labels.
        images: Their images.
        out: Output folder of the training.
        plan: How large its previews are.
    """

    training: Training
    recipe: Recipe
    name: str
    categories: Sequence[str]
    images: DiffusionImages
    out: Path
    plan: PreviewPlan

    def preview(
        self,
        step: int,
        log: TrainingLog,
        progress: Progress,
        accelerator: Accelerator,
        *,
        last: bool = False,
    ) -> Readiness | None:
        """Shows what the model makes now, if there is time.

        Returns:
            The readiness; None without time, and in all processes but the first.
        """
        readiness = None
        columns = self.plan.last() if last else self.plan.on_the_way()
        if accelerator.is_main_process and columns:
            started = time.monotonic()
            readiness = self.show(columns, step, log, progress, accelerator)
            self.plan.measured(columns, time.monotonic() - started)
        accelerator.wait_for_everyone()
        return readiness

    def show(
        self,
        columns: int,
        step: int,
        log: TrainingLog,
        progress: Progress,
        accelerator: Accelerator,
    ) -> Readiness:
        """Saves a picture of what the model makes now, and logs how ready it is."""
        held_out = self.images.held_out
        chosen = np.unique(np.linspace(0, len(held_out) - 1, columns).round().astype(int))
        images = torch.from_numpy(np.stack([held_out[place] for place in chosen])).float() / 255
        labels = torch.from_numpy(self.images.held_out_labels[chosen])
        classes = labels if self.recipe.diffusion.joint else None
        with self.averaged(accelerator) as pipeline:
            steps = self.recipe.synthesis.steps
            preview = make_preview(pipeline, images, classes, self.images.fit, steps)
        with atomic_path(self.out / "previews" / self.name / f"step-{step:08d}.png") as temporary:
            preview.sheet().save(temporary, format="PNG")
        log.write(step, preview.readiness.figures())
        progress.say(f"{self.name}: step {step}, {preview.readiness.describe()}")
        return preview.readiness

    def publish(self, step: int, readiness: Readiness | None, accelerator: Accelerator) -> None:
        """Saves the pipeline with what there is to know about it, whole or not at all."""
        if accelerator.is_main_process:
            with (
                self.averaged(accelerator) as pipeline,
                atomic_folder(self.out / self.name) as temporary,
            ):
                pipeline.save_pretrained(temporary)
                (temporary / RECIPE).write_text(self.recipe.to_yaml(), encoding="utf-8")
                write_json(temporary / REPORT, self.report(step, readiness, accelerator))
        accelerator.wait_for_everyone()

    def report(
        self, step: int, readiness: Readiness | None, accelerator: Accelerator
    ) -> dict[str, object]:
        """What there is to know about a model."""
        return {
            "steps": step,
            "categories": list(self.categories),
            "images": len(self.images.fit),
            "unreadable": self.images.unreadable,
            "seed": self.recipe.seed,
            "precision": accelerator.mixed_precision,
            "processes": accelerator.num_processes,
            "readiness": None if readiness is None else readiness.to_json(),
            "versions": environment(),
        }

    @contextmanager
    def averaged(self, accelerator: Accelerator) -> Iterator[SDASPipeline]:
        """A pipeline with the averaged weights; afterwards the network has its own again."""
        unet = accelerator.unwrap_model(self.training.unet)
        ema = self.training.ema
        ema.store(unet.parameters())
        ema.copy_to(unet.parameters())
        unet.eval()
        labels = number_categories(self.categories) if self.recipe.diffusion.joint else None
        pipeline = SDASPipeline(unet, self.training.scheduler, id2label=labels)
        pipeline.set_progress_bar_config(disable=True)
        try:
            yield pipeline
        finally:
            ema.restore(unet.parameters())
            unet.train()


def is_finished(folder: Path, step: int) -> bool:
    """Whether the model of a step has been saved, and it is known how ready it is."""
    try:
        report = read_json(folder / REPORT)
    except (FileNotFoundError, ValueError):
        return False
    return (
        isinstance(report, dict)
        and report.get("steps") == step
        and report.get("readiness") is not None
    )
