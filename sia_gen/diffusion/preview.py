"""Previews: what a model makes in the middle of its training, as one picture and a few figures.

Rows: samples of growing strength, each column from one noise; then real normal images that were
kept back, the noise DDIM inversion finds for them, and what that noise leads back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from sia_gen.diffusion.readiness import Readiness, measure_readiness
from sia_gen.images.store import Images
from sia_gen.sdas.inversion import invert, reconstruct
from sia_gen.sdas.pipeline import SDASPipeline, require_numbers

STRENGTHS = (0.0, 0.1, 0.2)
COLUMNS = 8
INVERSION_STEPS = 50
GAP, LABEL_WIDTH, SMALLEST_CELL = 4, 110, 64


@dataclass(frozen=True)
class Preview:
    """What a model makes.

    Attributes:
        rows: Title and images (B, C, H, W) in [0, 1] of each row.
        readiness: What they say of the model.
    """

    rows: list[tuple[str, torch.Tensor]]
    readiness: Readiness

    def sheet(self) -> Image.Image:
        """The rows as one picture."""
        return contact_sheet(self.rows)


def make_preview(
    pipeline: SDASPipeline,
    images: torch.Tensor,
    labels: torch.Tensor | None,
    training_images: Images,
    steps: int,
) -> Preview:
    """Samples a pipeline and has it reconstruct images.

    Args:
        pipeline: The pipeline, in evaluation mode.
        images: Normal images it was not trained on, (B, C, H, W) in [0, 1], one per
            column.
        labels: Their classes, (B,), for a class-conditional model.
        training_images: Images it was trained on.
        steps: Reverse steps per sample.
    """
    images = images.to(pipeline.device)
    labels = None if labels is None else labels.to(pipeline.device)
    samples = sample_strengths(pipeline, len(images), labels, steps)
    unet, scheduler = pipeline.unet, pipeline.scheduler
    noise = invert(unet, scheduler, images * 2 - 1, INVERSION_STEPS, labels)
    found = reconstruct(unet, scheduler, noise, INVERSION_STEPS, labels) / 2 + 0.5
    return Preview(
        rows=[
            *((f"strength {strength:g}", row) for strength, row in samples.items()),
            ("real", images),
            # Four standard deviations of noise from black to white.
            ("its noise", noise / 4 + 0.5),
            ("and back", found),
        ],
        readiness=measure_readiness(samples[0.0], images, found, training_images),
    )


def sample_strengths(
    pipeline: SDASPipeline, columns: int, labels: torch.Tensor | None, steps: int
) -> dict[float, torch.Tensor]:
    """Samples (B, C, H, W) in [0, 1] of each strength; column by column from the same noise."""
    seeds = [seed for _ in STRENGTHS for seed in range(columns)]
    images: torch.Tensor = pipeline(
        num_images=len(seeds),
        strength=[strength for strength in STRENGTHS for _ in range(columns)],
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        class_labels=None if labels is None else labels.tolist() * len(STRENGTHS),
        output_type="pt",
    ).images
    require_numbers(images.isfinite().all())
    return dict(zip(STRENGTHS, torch.split(images, columns), strict=True))


def contact_sheet(rows: Sequence[tuple[str, torch.Tensor]]) -> Image.Image:
    """Rows of images (B, C, H, W) in [0, 1], each with its title on the left."""
    side = max(rows[0][1].shape[-1], SMALLEST_CELL)
    columns = max(len(images) for _, images in rows)
    size = (LABEL_WIDTH + columns * (side + GAP), len(rows) * (side + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, images) in enumerate(rows):
        top = row * (side + GAP)
        draw.text((GAP, top + side / 2), title, fill="black", anchor="lm")
        for column, image in enumerate(images):
            sheet.paste(cell(image, side), (LABEL_WIDTH + column * (side + GAP), top))
    return sheet


def cell(image: torch.Tensor, side: int) -> Image.Image:
    """One image (C, H, W) in [0, 1] as a square picture."""
    pixels = (image.clamp(0, 1) * 255).round().byte().cpu().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    return picture.convert("RGB").resize((side, side), Image.Resampling.NEAREST)
