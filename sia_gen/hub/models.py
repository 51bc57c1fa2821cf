"""Publishes models: SDAS pipelines and RealNets, with their cards."""

import math
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar
from huggingface_hub import CardData
from PIL import Image
from pydantic import TypeAdapter
from safetensors import safe_open

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.config.recipe_file import parse_yaml
from sia_gen.corpus.card import CARD, PICTURE, hub_license, linked, markdown_environment
from sia_gen.corpus.manifest import MANIFEST
from sia_gen.errors import ModelError
from sia_gen.hub.publication import THEIRS, Publication
from sia_gen.hub.repository import RemoteFiles, Repository
from sia_gen.io.files import atomic_path, sha256, write_text
from sia_gen.io.json import parse_json, read_json
from sia_gen.realnet.inference import REPORT as FIT_REPORT
from sia_gen.realnet.inference import load_realnet
from sia_gen.report.pictures import contact_sheet
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import REPORT as TRAINING_REPORT
from sia_gen.sdas.loading import HashCache, check_pipeline, load_pipeline
from sia_gen.sdas.validation import INDEX, UNET_WEIGHTS

# The file by which each kind of repository is recognised.
MARKS = {MANIFEST: "a corpus", INDEX: "an SDAS pipeline", FIT_REPORT: "a RealNet"}
TRAINED = "Publish models that 'sia-gen train-diffusion' or 'fit-realnet' made."
STRENGTHS = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8]
ROWS = 3


class ModelPublication(Publication):
    """A complete SDAS pipeline or RealNet on its way to the Hub; `ModelError` if it is damaged."""

    kind = "model"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_pipeline = (folder / INDEX).is_file()
        self.mark = INDEX if self.is_pipeline else FIT_REPORT
        self.report = TRAINING_REPORT if self.is_pipeline else FIT_REPORT
        if not (folder / RECIPE).is_file():
            raise ModelError(
                problem=f"the model in {folder} has no {RECIPE}, so its licence is not known.",
                fix=TRAINED,
            )
        self.recipe = Recipe.load(folder / RECIPE)
        self.facts = _read_report(folder / self.report)
        self.categories: list[str] = self.facts["categories"]
        if self.is_pipeline:
            check_pipeline(folder, self.recipe)
        else:
            load_realnet(folder)
        self.title = f"{MARKS[self.mark]} of {', '.join(self.categories)}, {self.recipe.title}"
        paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
        names = sorted(path.as_posix() for path in visible)
        weights = [name for name in names if name.endswith(".safetensors")]
        self.large = {name: sha256(folder / name) for name in weights}
        written = {CARD, PICTURE} if self.is_pipeline else {CARD}
        # The mark promises everything else, so it comes last.
        self.small = [*sorted({*names, *written} - {*weights, self.mark}), self.mark]
        self.claim = {name: folder / name for name in dict.fromkeys((RECIPE, self.report))}

    def foreign(self, repository: Repository, files: RemoteFiles) -> str | None:
        """Describes what the repository holds besides an older model of the same kind."""
        for mark, what in MARKS.items():
            if mark in files and mark != self.mark:
                return what
        if {RECIPE, self.report} <= files.keys():
            return self._difference(repository.read(RECIPE), repository.read(self.report))
        ours = {*self.large, *self.small, *THEIRS}
        return next((path for path in files if path not in ours), None)

    def _difference(self, recipe: bytes, report: bytes) -> str | None:
        try:
            name = parse_yaml(recipe)["name"]
            categories = parse_json(report)["categories"]
        except (ValueError, LookupError, TypeError):
            return f"a {RECIPE} or {self.report} that cannot be read"
        if (name, categories) == (self.recipe.name, self.categories):
            return None
        return f"a model of {', '.join(map(str, categories))} of {name}"

    def prepare(self, repository: str, target: Path) -> None:
        """Writes the card, and for a pipeline a picture of samples."""
        if self.is_pipeline:
            write_pipeline_card(self.folder, target, self.recipe, self.facts, repository)
            return
        _write_card(
            target / CARD,
            "realnet_card.md.jinja",
            _metadata(self.recipe, "image-segmentation", ["realnet"]),
            recipe=self.recipe,
            report=self.facts,
            repository=repository,
        )


def write_pipeline_card(
    folder: Path, target: Path, recipe: Recipe, report: dict[str, Any], repository: str
) -> None:
    """Writes the card of an SDAS pipeline, and a picture of samples of growing strength.

    Both go into `target`; `report` is that of the training, `repository` is `owner/name`.
    """
    guided = (folder / "classifier").is_dir()
    labels, rows = _sample_rows(folder, recipe, guidance_scale=float(guided))
    with atomic_path(target / PICTURE) as temporary:
        contact_sheet(rows).save(temporary, format="PNG", optimize=True)
    _write_card(
        target / CARD,
        "pipeline_card.md.jinja",
        _metadata(recipe, "unconditional-image-generation", ["sdas", "diffusion"]),
        recipe=recipe,
        report=report,
        repository=repository,
        picture=PICTURE,
        strengths=STRENGTHS,
        labels=labels,
        guided=guided,
        parameters=count_parameters(folder / UNET_WEIGHTS),
        hash=HashCache().model_hash(folder),
    )


def count_parameters(weights: Path) -> int:
    """Returns the number of parameters in a file of weights, from its header."""
    with safe_open(weights, framework="pt") as file:
        names = file.keys()
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _sample_rows(
    folder: Path, recipe: Recipe, guidance_scale: float
) -> tuple[list[str], list[list[Image.Image]]]:
    """Returns rows of samples of growing strength, and their classes if the model knows any."""
    disable_progress_bar()
    pipeline = load_pipeline(folder, recipe)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(Runtime(None, "auto").accelerator().device)
    labels = list(pipeline.labels)[:ROWS]
    rows = [
        pipeline(
            num_images=len(STRENGTHS),
            strength=STRENGTHS,
            generator=[torch.Generator().manual_seed(seed) for _ in STRENGTHS],
            num_inference_steps=recipe.synthesis.steps,
            class_labels=label,
            guidance_scale=guidance_scale,
        ).images
        for seed, label in enumerate(labels or [None] * ROWS)
    ]
    return labels, rows


def _metadata(recipe: Recipe, task: str, tags: list[str]) -> str:
    """Returns the YAML at the top of a card."""
    fields: dict[str, Any] = {
        "library_name": "sia-gen",
        "pipeline_tag": task,
        **hub_license(recipe.license),
        "tags": ["anomaly-detection", "sia-gen", *tags],
    }
    return CardData(**fields).to_yaml()


def _write_card(path: Path, template: str, metadata: str, **values: Any) -> None:
    environment = markdown_environment("sia_gen.hub")
    card = environment.get_template(template).render(metadata=metadata, linked=linked, **values)
    write_text(path, card)


def _read_report(path: Path) -> dict[str, Any]:
    """Returns the report of a training, with the categories of the model."""
    try:
        report: dict[str, Any] = dict(read_json(path))
        TypeAdapter(list[str]).validate_python(report["categories"], strict=True)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            problem=f"the report of the model, {path}, is missing or damaged.", fix=TRAINED
        ) from error
    return report
