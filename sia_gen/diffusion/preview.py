"""Previews: images that a model makes during its training, as one picture and a few figures.

Rows: samples of growing strength, each column from one noise; then real normal images that were
held out, the noise that DDIM inversion finds for them, and the images that noise leads back to.
"""

import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from sia_gen.diffusion.readiness import Readiness, measure_readiness
from sia_gen.diffusion.state import TrainingState
from sia_gen.images.by_number import Images
from sia_gen.io.files import atomic_path
from sia_gen.report.pictures import contact_sheet
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.denoising import invert, reconstruct
from sia_gen.sdas.pipeline import SDASPipeline, require_numbers
from sia_gen.train.logs import TrainingLog
from sia_gen.train.loop import Budget

STRENGTHS = (0.0, 0.1, 0.2)
COLUMNS = 8
INVERSION_STEPS = 50
SMALLEST_CELL = 64
# Share of the minutes of a run that one preview may take.
LARGEST_SHARE = 0.25


class Previews:
    """The previews of a run, which leave time for training.

    Where time is short they have fewer columns. Each column keeps all its steps, because with fewer
    steps reconstructions would be worse.
    """

    def __init__(
        self, state: TrainingState, budget: Budget, log: TrainingLog, progress: Progress
    ) -> None:
        self.state, self.budget, self.log, self.progress = state, budget, log, progress
        self.columns = min(COLUMNS, len(state.images.held_out))
        if state.accelerator.is_main_process and state.recipe.diffusion.max_minutes is not None:
            self._estimate()

    def show(self, step: int, *, last: bool = False) -> Readiness | None:
        """Saves a preview and returns the readiness, in the first process and if there is time."""
        if last:
            columns = self._columns_within(self.budget.before_publishing)
        else:
            columns = self.columns if self.budget.preview <= self.budget.spare else 0
        readiness = None
        if self.state.accelerator.is_main_process and columns:
            started = time.monotonic()
            readiness = self._save(step, columns)
            seconds = time.monotonic() - started
            # The time does not count as steps. Previews that were too slow get fewer columns.
            self.budget.stepping += seconds
            self.budget.preview = seconds * self.columns / columns
            fewer = self._columns_within(LARGEST_SHARE * self.budget.seconds)
            self.budget.preview *= fewer / self.columns
            self.columns = fewer
        self.state.accelerator.wait_for_everyone()
        return readiness

    def _save(self, step: int, columns: int) -> Readiness:
        state, held_out = self.state, self.state.images.held_out
        chosen = np.unique(np.linspace(0, len(held_out) - 1, columns).round().astype(int))
        images = torch.from_numpy(np.stack([held_out[place] for place in chosen])).float() / 255
        labels = torch.from_numpy(state.images.held_out_labels[chosen])
        classes = labels if state.recipe.diffusion.joint else None
        with state.averaged() as pipeline:
            steps = state.recipe.synthesis.steps
            sheet, readiness = make_preview(pipeline, images, classes, state.images.fit, steps)
        path = state.out / "previews" / state.name / f"step-{step:08d}.png"
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="PNG")
        self.log.write(step, readiness.figures())
        self.progress.say(f"{state.name}: step {step}, {readiness.describe()}")
        return readiness

    def _estimate(self) -> None:
        """Plans as many columns as fit, by how long the network takes for images."""
        most, unet = self.columns, self.state.accelerator.unwrap_model(self.state.unet).eval()
        passes = len(STRENGTHS) * self.state.recipe.synthesis.steps + 2 * INVERSION_STEPS
        # The first pass is slower than all others.
        _forward_seconds(unet, 1)
        self.columns = 0
        for halved in reversed(range(most.bit_length())):
            columns = most >> halved
            seconds = passes * _forward_seconds(unet, columns)
            if seconds > LARGEST_SHARE * self.budget.seconds:
                break
            self.columns, self.budget.preview = columns, seconds
        if 0 < self.columns < most:
            self.progress.say(
                f"{self.state.name}: previews have {self.columns} columns instead of {most}, to "
                "take no more than a quarter of --max-minutes"
            )

    def _columns_within(self, seconds: float) -> int:
        columns = self.columns
        while columns and self.budget.preview * columns > seconds * self.columns:
            columns //= 2
        return columns


def _forward_seconds(unet: Any, images: int) -> float:
    config = unet.config
    shape = (images, config.in_channels, config.sample_size, config.sample_size)
    classes = torch.zeros(images, dtype=torch.int64, device=unet.device)
    labels = None if config.num_class_embeds is None else classes
    started = time.monotonic()
    with torch.no_grad():
        # Reading a number waits for the result.
        unet(torch.zeros(shape, device=unet.device), 0, class_labels=labels).sample.sum().item()
    return time.monotonic() - started


def make_preview(
    pipeline: SDASPipeline,
    images: torch.Tensor,
    labels: torch.Tensor | None,
    training_images: Images,
    steps: int,
) -> tuple[Image.Image, Readiness]:
    """Samples a pipeline, lets it reconstruct images, and measures its readiness.

    The pipeline is in evaluation mode, and takes some reverse steps per sample. The images were
    held out, (B, C, H, W) in [0, 1], one per column, with labels (B,) for a joint model.
    """
    images = images.to(pipeline.device)
    labels = None if labels is None else labels.to(pipeline.device)
    columns = len(images)
    # Each column has one noise.
    seeds = [seed for _ in STRENGTHS for seed in range(columns)]
    sampled: torch.Tensor = pipeline(
        num_images=len(seeds),
        strength=[strength for strength in STRENGTHS for _ in range(columns)],
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        class_labels=None if labels is None else labels.tolist() * len(STRENGTHS),
        output_type="pt",
    ).images
    require_numbers(sampled.isfinite().all())
    samples = dict(zip(STRENGTHS, torch.split(sampled, columns), strict=True))
    unet, scheduler = pipeline.unet, pipeline.scheduler
    noise = invert(unet, scheduler, images * 2 - 1, INVERSION_STEPS, labels)
    found = reconstruct(unet, scheduler, noise, INVERSION_STEPS, labels) / 2 + 0.5
    rows = {f"strength {strength:g}": row for strength, row in samples.items()}
    # Four standard deviations of noise from black to white.
    rows |= {"real": images, "its noise": noise / 4 + 0.5, "and back": found}
    pictures = []
    for row in rows.values():
        pixels = row.nan_to_num(0).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
        pictures.append(pipeline.numpy_to_pil(pixels))
    sheet = contact_sheet(pictures, list(rows), side=max(images.shape[-1], SMALLEST_CELL))
    return sheet, measure_readiness(samples[0.0], images, found, training_images)
