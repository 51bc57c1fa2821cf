"""Opens SDAS pipelines from disk, with errors that say what is wrong.

MODELS/
    <category>/     the pipeline of one category
    _joint/         in its place, one class-conditional pipeline of several
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers.utils.logging import disable_progress_bar

from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.errors import ModelError, did_you_mean
from sia_gen.io.files import sha256, write_json
from sia_gen.io.json import read_json
from sia_gen.io.locations import Location
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.runtime.out_of_memory import ran_out
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.validation import (
    INDEX,
    damaged,
    read_object,
    require_names,
    require_network,
    require_pipeline,
)

# What a training says of its model, beside the weights.
REPORT = "training.json"

PARTS = ("scheduler/scheduler_config.json", "unet/config.json")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
CLASSIFIER_PARTS = ("config.json", REPORT)
CLASSIFIER_WEIGHTS = "diffusion_pytorch_model.safetensors"


def find_pipeline(models: Path, category: str) -> Path:
    """The folder of the pipeline that makes a category: its own, or the joint one.

    Raises:
        ModelError: If there is only a joint one, and it does not know the category.
    """
    own, joint = models / category, models / JOINT
    if own.is_dir() or not joint.is_dir():
        return own
    index = read_object(joint / INDEX)
    require_names(joint, index)
    known = index.get("id2label") or {}
    if category not in known.values():
        raise ModelError(
            problem=f"the joint model in {joint} knows no category '{category}'"
            f"{did_you_mean(category, known.values())}.",
            fix=f"It knows: {', '.join(known.values())}.",
        )
    return joint


def load_pipeline(folder: Path, recipe: Recipe, classifier: Path | None = None) -> SDASPipeline:
    """Loads a pipeline.

    Args:
        folder: The folder of the pipeline.
        recipe: Says which image mode is wanted.
        classifier: Folder of a classifier to guide it with.

    Raises:
        ModelError: If one of them is not there, damaged, or does not fit the other or the recipe.
    """
    check_pipeline(folder, recipe)
    disable_progress_bar()
    pipeline: SDASPipeline = load(SDASPipeline, folder)
    return pipeline if classifier is None else with_classifier(pipeline, folder, classifier)


def with_classifier(pipeline: SDASPipeline, folder: Path, classifier: Path) -> SDASPipeline:
    """The pipeline, guided by the classifier in a folder."""
    check_parts(classifier, (*CLASSIFIER_PARTS, CLASSIFIER_WEIGHTS), "train-classifier")
    require_network(classifier, NoisyClassifier)
    model = load(NoisyClassifier, classifier)
    categories = read_object(classifier / REPORT).get("categories")
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise damaged(classifier, f"its {REPORT} names no categories")
    config = pipeline.unet.config
    wanted = (config.sample_size, config.in_channels, list(pipeline.labels) or categories)
    found = (model.config.sample_size, model.config.in_channels, categories)
    for name, one, other in zip(("pixels", "channels", "categories"), found, wanted, strict=True):
        if one != other:
            raise ModelError(
                problem=f"the classifier in {classifier} does not fit the model in {folder}: "
                f"{name} {one}, not {other}.",
                fix="Train it with the recipe of the model, by 'sia-gen train-classifier'.",
            )
    return SDASPipeline(pipeline.unet, pipeline.scheduler, model, named(categories))


def named(categories: Sequence[str]) -> dict[str, str]:
    """The categories by their index, as pipelines keep them."""
    return {str(index): category for index, category in enumerate(categories)}


def load(kind: Any, folder: Path) -> Any:
    """Loads a pipeline or a model; `ModelError` says what is wrong with the folder."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except ModelError:
        raise
    # What a damaged config makes diffusers raise has no common base.
    except Exception as error:
        if ran_out(error):
            raise
        raise damaged(folder, " ".join(str(error).split()).rstrip(".")) from error


def check_pipeline(folder: Path, recipe: Recipe) -> int:
    """Checks that a folder holds a whole pipeline for images of a recipe, without loading it.

    Returns:
        The side of the images it makes, in pixels.

    Raises:
        ModelError: If something is missing, damaged, or does not fit.
    """
    check_parts(folder, (*PARTS, WEIGHTS), "train-diffusion")
    require_pipeline(folder, values=False)
    config = read_object(folder / "unet" / "config.json")
    size, channels = config.get("sample_size"), config.get("in_channels")
    if not isinstance(size, int):
        raise damaged(folder, "its unet/config.json has no sample_size")
    if channels != len(recipe.mode):
        raise ModelError(
            problem=f"the model in {folder} makes images of {channels} channels, "
            f"but the recipe's mode is '{recipe.mode}'.",
            fix="Use the recipe the model was trained with; it lies beside it.",
        )
    return size


def check_parts(folder: Path, parts: tuple[str, ...], command: str) -> None:
    """Raises `ModelError` unless the folder has these files; `command` makes them."""
    guiding = command == "train-classifier"
    what, option = ("classifier", "classifier") if guiding else ("diffusion model", "model")
    for part in parts:
        if not (folder / part).is_file():
            raise ModelError(
                problem=f"there is no {what} in {folder} (no {part}).",
                fix=f"Train one with 'sia-gen {command}', or give its folder with --{option}.",
            )


class HashCache:
    """Hashes of files, kept by their size and time.

    Args:
        path: The JSON file that keeps them for the next run; `save` writes it.
    """

    def __init__(self, path: Location | None = None) -> None:
        self.known: dict[str, str] = {}
        if path is not None:
            # A damaged cache is no loss.
            with contextlib.suppress(OSError, ValueError):
                self.known = hashes_in(read_json(path))

    def model_hash(self, folder: Path, classifier: Path | None = None) -> str:
        """A hash of what decides samples: weights and configs of a pipeline and a classifier.

        Raises:
            ModelError: If they are not there.
        """
        check_parts(folder, (*PARTS, WEIGHTS), "train-diffusion")
        files = [folder / part for part in (*PARTS, WEIGHTS)]
        if classifier is not None:
            check_parts(classifier, (*CLASSIFIER_PARTS, CLASSIFIER_WEIGHTS), "train-classifier")
            files += [classifier / "config.json", classifier / CLASSIFIER_WEIGHTS]
        digest = hashlib.sha256()
        for file in files:
            digest.update(self.hash(file).encode())
        return digest.hexdigest()

    def hash(self, file: Path) -> str:
        """SHA-256 of a file, computed once for every state of it."""
        state = file.stat()
        name = f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
        if name not in self.known:
            self.known[name] = sha256(file)
        return self.known[name]

    def save(self, path: Location) -> None:
        """Keeps the hashes for the next run."""
        write_json(path, dict(sorted(self.known.items())))


def hashes_in(content: Any) -> dict[str, str]:
    """What a cache kept; `ValueError` if it is no cache."""
    if not isinstance(content, dict) or not all(isinstance(one, str) for one in content.values()):
        msg = "it is no cache of hashes"
        raise ValueError(msg)
    return content
