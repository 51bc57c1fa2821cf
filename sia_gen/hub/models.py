"""Models to be published: SDAS pipelines and RealNets, with their cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.hf_api import RepoFile

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.config.yaml import parse_yaml
from sia_gen.corpus.manifest import MANIFEST
from sia_gen.errors import HubError, ModelError
from sia_gen.hub.model_card import CARD, PICTURE, write_pipeline_card, write_realnet_card
from sia_gen.hub.repository import THEIRS, Repository, RepositoryKind
from sia_gen.io.files import sha256
from sia_gen.io.json import parse_json, read_json
from sia_gen.realnet.loading import REPORT as FIT_REPORT
from sia_gen.realnet.loading import load_realnet
from sia_gen.sdas.loading import REPORT as TRAINING_REPORT
from sia_gen.sdas.loading import check_pipeline
from sia_gen.sdas.validation import INDEX

WEIGHTS = ".safetensors"
# The file that every repository of a kind has.
MARKS = {MANIFEST: "a corpus", INDEX: "an SDAS pipeline", FIT_REPORT: "a RealNet"}


def is_hidden(path: Path) -> bool:
    """Whether a file, or a folder it is in, is one that programs keep for themselves."""
    return any(part.startswith(".") for part in path.parts)


class ModelPublication:
    """A model on its way to the Hub.

    Args:
        folder: Of the model.

    Raises:
        ModelError: If it is not whole.
    """

    kind: RepositoryKind = "model"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_pipeline = (folder / INDEX).is_file()
        self.mark = INDEX if self.is_pipeline else FIT_REPORT
        self.report = TRAINING_REPORT if self.is_pipeline else FIT_REPORT
        if not (folder / RECIPE).is_file():
            raise ModelError(
                problem=f"the model in {folder} has no {RECIPE}, so its licence is not known.",
                fix="Publish models that 'sia-gen train-diffusion' or 'fit-realnet' made.",
            )
        self.recipe = Recipe.load(folder / RECIPE)
        self.facts, self.categories = read_report(folder / self.report)
        if self.is_pipeline:
            check_pipeline(folder, self.recipe)
        else:
            load_realnet(folder)
        paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.as_posix() for path in paths if not is_hidden(path)]
        self.large = {name: sha256(folder / name) for name in names if name.endswith(WEIGHTS)}
        written = [CARD, PICTURE] if self.is_pipeline else [CARD]
        # The mark comes last, after all that it stands for.
        others = {name for name in names if name not in self.large} | set(written)
        self.small = [*sorted(others - {self.mark}), self.mark]

    @property
    def title(self) -> str:
        """What is sent, in a few words."""
        return f"{MARKS[self.mark]} of {', '.join(self.categories)}, {self.recipe.title}"

    @property
    def claim(self) -> dict[str, bytes | Path]:
        """What the model is of, and the recipe."""
        return {name: self.folder / name for name in dict.fromkeys((RECIPE, self.report))}

    def check(self, repository: Repository, files: Mapping[str, RepoFile]) -> None:
        """Refuses a repository that holds anything but this model, or an older one of its kind.

        Raises:
            HubError: If it does; it names what is there.
        """
        marks = [what for mark, what in MARKS.items() if mark in files and mark != self.mark]
        other = next(iter(marks), None)
        if other is None and {RECIPE, self.report} <= files.keys():
            other = self.difference(repository.read(RECIPE), repository.read(self.report))
        elif other is None:
            ours = {*self.large, *self.small, *THEIRS}
            other = next((path for path in files if path not in ours), None)
        if other is not None:
            raise HubError(
                problem=f"{repository} holds something else: {other}.",
                fix="Choose another repository, or delete that one on the Hub.",
            )

    def difference(self, recipe: bytes, report: bytes) -> str | None:
        """What makes the model on the Hub one of something else."""
        try:
            name = parse_yaml(recipe)["name"]
            categories = parse_json(report)["categories"]
        except (ValueError, LookupError, TypeError):
            return f"a {RECIPE} or {self.report} that cannot be read"
        if (name, categories) == (self.recipe.name, self.categories):
            return None
        return f"a model of {', '.join(map(str, categories))} of {name}"

    def prepare(self, repository: Repository, target: Path) -> None:
        """Writes the card into `target`, for a pipeline with samples of it."""
        if self.is_pipeline:
            write_pipeline_card(self.folder, target, self.recipe, self.facts, repository.name)
        else:
            write_realnet_card(target, self.recipe, self.facts, repository.name)


def read_report(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a training says of its model, and the categories it was trained on.

    Raises:
        ModelError: If it is missing or damaged.
    """
    try:
        report = dict(read_json(path))
        categories = report["categories"]
    except (OSError, ValueError, LookupError, TypeError):
        categories = None
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise ModelError(
            problem=f"the report of the model, {path}, is missing or damaged.",
            fix="Publish models that 'sia-gen train-diffusion' or 'fit-realnet' made.",
        )
    return report, categories
