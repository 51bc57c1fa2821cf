"""Publishes models: SDAS pipelines and RealNets, with their cards."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar
from huggingface_hub import CardData
from pydantic import TypeAdapter

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.config.recipe_file import parse_yaml
from sia_gen.corpus.card import CARD, PICTURE, hub_license, linked
from sia_gen.corpus.manifest import MANIFEST
from sia_gen.errors import ModelError
from sia_gen.hub.repository import THEIRS, Publication, RemoteFiles, Repository
from sia_gen.io.files import atomic_path, parse_json, read_json, sha256, write_text
from sia_gen.realnet.inference import REPORT as FIT_REPORT
from sia_gen.realnet.inference import load_realnet
from sia_gen.report.page import open_template
from sia_gen.report.pictures import contact_sheet
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import REPORT as TRAINING_REPORT
from sia_gen.sdas.loading import HashCache, check_pipeline, load_pipeline
from sia_gen.sdas.validation import INDEX

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
            try:
                name = parse_yaml(repository.read(RECIPE))["name"]
                categories = parse_json(repository.read(self.report))["categories"]
            except (ValueError, LookupError, TypeError):
                return f"a {RECIPE} or {self.report} that cannot be read"
            if (name, categories) == (self.recipe.name, self.categories):
                return None
            return f"a model of {', '.join(map(str, categories))} of {name}"
        ours = {*self.large, *self.small, *THEIRS}
        return next((path for path in files if path not in ours), None)

    def prepare(self, repository: str, target: Path) -> None:
        """Writes the card, and for a pipeline a picture of samples."""
        if self.is_pipeline:
            write_pipeline_card(self.folder, target, self.recipe, self.facts, repository)
            return
        known = {"report": self.facts, "repository": repository}
        _write_card(target, "realnet", self.recipe, "image-segmentation", ["realnet"], **known)


def write_pipeline_card(
    folder: Path, target: Path, recipe: Recipe, report: dict[str, Any], repository: str
) -> None:
    """Writes the card of an SDAS pipeline, and a picture of samples of growing strength."""
    guided = (folder / "classifier").is_dir()
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
            guidance_scale=float(guided),
        ).images
        for seed, label in enumerate(labels or [None] * ROWS)
    ]
    with atomic_path(target / PICTURE) as temporary:
        contact_sheet(rows).save(temporary, format="PNG", optimize=True)
    _write_card(
        target,
        "pipeline",
        recipe,
        "unconditional-image-generation",
        ["sdas", "diffusion"],
        report=report,
        repository=repository,
        picture=PICTURE,
        strengths=STRENGTHS,
        labels=labels,
        guided=guided,
        parameters=pipeline.unet.num_parameters(),
        hash=HashCache().model_hash(folder),
    )


def _write_card(
    target: Path, kind: str, recipe: Recipe, task: str, tags: list[str], **known: Any
) -> None:
    metadata: dict[str, Any] = {
        "library_name": "sia-gen",
        "pipeline_tag": task,
        **hub_license(recipe.license),
        "tags": ["anomaly-detection", "sia-gen", *tags],
    }
    template = open_template("sia_gen.hub", f"{kind}_card.md.jinja", trim=False)
    known |= {"metadata": CardData(**metadata).to_yaml(), "recipe": recipe, "linked": linked}
    write_text(target / CARD, template.render(known))


def _read_report(path: Path) -> dict[str, Any]:
    """Returns the report of a training, with the categories of the model."""
    try:
        report: dict[str, Any] = dict(read_json(path))
        TypeAdapter(list[str]).validate_python(report["categories"], strict=True)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            problem=f"the report of the model, {path}, is missing or damaged, or of an import.",
            fix=TRAINED,
        ) from error
    return report
