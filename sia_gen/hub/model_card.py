"""The cards of models: README.md, filled from a template for each kind of model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar
from huggingface_hub import CardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import safe_open

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.card import hub_license, linked
from sia_gen.hub.measure import contact_sheet
from sia_gen.io.files import atomic_path, write_text
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import WEIGHTS, HashCache, load_pipeline

CARD = "README.md"
PICTURE = "samples.png"
STRENGTHS = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8]
ROWS = 3


def write_pipeline_card(
    folder: Path, target: Path, recipe: Recipe, report: dict[str, Any], repository: str
) -> None:
    """Writes the card of an SDAS pipeline, and a picture of what strength does to its samples.

    Args:
        folder: Of the pipeline.
        target: Where the card and the picture go.
        recipe: Of the pipeline.
        report: What its training says of it.
        repository: Where it is on the Hub, `owner/name`.
    """
    guided = (folder / "classifier").is_dir()
    labels = sample_sheet(folder, target / PICTURE, recipe, guidance_scale=float(guided))
    render(
        target,
        "pipeline_card.md.jinja",
        metadata(recipe, "unconditional-image-generation", ["sdas", "diffusion"]),
        recipe=recipe,
        report=report,
        repository=repository,
        picture=PICTURE,
        strengths=STRENGTHS,
        labels=labels,
        guided=guided,
        parameters=count_parameters(folder / WEIGHTS),
        hash=HashCache().model_hash(folder),
    )


def write_realnet_card(
    target: Path, recipe: Recipe, report: dict[str, Any], repository: str
) -> None:
    """Writes the card of a RealNet into a folder."""
    render(
        target,
        "realnet_card.md.jinja",
        metadata(recipe, "image-segmentation", ["realnet"]),
        recipe=recipe,
        report=report,
        repository=repository,
    )


def render(folder: Path, template: str, head: dict[str, Any], **values: Any) -> None:
    """Fills a template."""
    # Markdown, in which entities of HTML would stand as they are.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("sia_gen.hub", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    front = CardData(**head).to_yaml()
    write_text(
        folder / CARD,
        environment.get_template(template).render(metadata=front, linked=linked, **values),
    )


def metadata(recipe: Recipe, task: str, tags: list[str]) -> dict[str, Any]:
    """The YAML at the top of a card."""
    return {
        "library_name": "sia-gen",
        "pipeline_tag": task,
        **hub_license(recipe.license),
        "tags": ["anomaly-detection", "sia-gen", *tags],
    }


def sample_sheet(folder: Path, picture: Path, recipe: Recipe, guidance_scale: float) -> list[str]:
    """Saves a picture of samples of growing strength, a seed in each row.

    Returns:
        The classes of the rows; empty if the model knows none.
    """
    disable_progress_bar()
    pipeline = load_pipeline(folder, recipe)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(Runtime(None, "auto").accelerator().device)
    labels = list(pipeline.labels)[:ROWS]
    rows = []
    for row in range(len(labels) or ROWS):
        generators = [torch.Generator().manual_seed(row) for _ in STRENGTHS]
        rows.append(
            pipeline(
                num_images=len(STRENGTHS),
                strength=STRENGTHS,
                generator=generators,
                num_inference_steps=recipe.synthesis.steps,
                class_labels=labels[row] if labels else None,
                guidance_scale=guidance_scale,
            ).images
        )
    with atomic_path(picture) as temporary:
        contact_sheet(rows).save(temporary, format="PNG", optimize=True)
    return labels


def count_parameters(weights: Path) -> int:
    """How many numbers there are in a file of weights, by its header."""
    with safe_open(weights, framework="pt") as file:
        names = file.keys()
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
