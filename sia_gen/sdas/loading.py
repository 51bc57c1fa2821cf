"""Opens SDAS pipelines from disk, with errors that say what is wrong.

MODELS/
    <category>/     the pipeline of one category
    _joint/         in its place, one class-conditional pipeline of several
"""

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import UNet2DModel
from diffusers.utils.logging import disable_progress_bar
from pydantic import TypeAdapter

from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.errors import ModelError, did_you_mean
from sia_gen.io.files import Location, read_json, sha256, write_json
from sia_gen.io.refusals import ran_out
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.validation import (
    NETWORK,
    PIPELINE_FILES,
    WEIGHTS,
    damaged,
    read_index,
    read_object,
    require_files,
    require_network,
    require_pipeline,
)

# The report of a training, beside the weights.
REPORT = "training.json"
CLASSIFIER_FILES = (NETWORK, WEIGHTS)


def find_pipeline(models: Path, category: str) -> Path:
    """Returns the folder of the pipeline that makes a category: its own, or the joint one.

    Raises:
        ModelError: If there is only a joint one, and it does not know the category.
    """
    own, joint = models / category, models / JOINT
    if own.is_dir() or not joint.is_dir():
        return own
    known = (read_index(joint).get("id2label") or {}).values()
    if category not in known:
        raise ModelError(
            problem=f"the joint model in {joint} knows no category '{category}'"
            f"{did_you_mean(category, known)}.",
            fix=f"It knows: {', '.join(known)}.",
        )
    return joint


def check_pipeline(folder: Path, recipe: Recipe) -> int:
    """Checks a pipeline without loading it and returns the side of its images in pixels.

    Raises:
        ModelError: If something is missing or damaged, or it makes images of another mode.
    """
    return int(check_network(folder, recipe, values=False).config.sample_size)


def check_network(folder: Path, recipe: Recipe, *, values: bool) -> UNet2DModel:
    """Checks like `check_pipeline` and `require_pipeline`; returns the UNet on the meta device."""
    unet: UNet2DModel = require_pipeline(folder, values=values)["unet"]
    _require_fit(unet, folder, recipe)
    return unet


def load_pipeline(folder: Path, recipe: Recipe, classifier: Path | None = None) -> SDASPipeline:
    """Loads a pipeline for images of a recipe, with a classifier to guide it if one is given.

    Raises:
        ModelError: If one of them is missing, damaged, or does not fit the other or the recipe.
    """
    # Without these files it may be no folder, and would be taken for a repository on the Hub.
    require_files(folder, PIPELINE_FILES, "diffusion")
    disable_progress_bar()
    pipeline: SDASPipeline = _load(SDASPipeline, folder)
    _require_fit(pipeline.unet, folder, recipe)
    return pipeline if classifier is None else _with_classifier(pipeline, folder, classifier)


def _require_fit(unet: UNet2DModel, folder: Path, recipe: Recipe) -> None:
    size, channels = unet.config.sample_size, unet.config.in_channels
    if not isinstance(size, int):
        raise damaged(folder, "its unet/config.json has no sample_size")
    if channels != len(recipe.mode):
        raise ModelError(
            problem=f"the model in {folder} makes images of {channels} channels, "
            f"but the recipe's mode is '{recipe.mode}'.",
            fix="Use the recipe the model was trained with; it lies beside it.",
        )


def _with_classifier(pipeline: SDASPipeline, folder: Path, classifier: Path) -> SDASPipeline:
    require_files(classifier, (*CLASSIFIER_FILES, REPORT), "classifier")
    require_network(classifier, NoisyClassifier)
    model = _load(NoisyClassifier, classifier)
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
    return SDASPipeline(pipeline.unet, pipeline.scheduler, model, number_categories(categories))


def number_categories(categories: Sequence[str]) -> dict[str, str]:
    """Returns the categories by index, as pipelines keep them in `id2label`."""
    return {str(index): category for index, category in enumerate(categories)}


def _load(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except ModelError:
        raise
    # The errors that a damaged config causes in diffusers have no common base.
    except Exception as error:
        if ran_out(error):
            raise
        raise damaged(folder, str(error)) from error


class HashCache:
    """Hashes of files, kept by size and modification time.

    A damaged file of an earlier run is ignored.
    """

    def __init__(self, path: Location | None = None) -> None:
        self.known: dict[str, str] = {}
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                hashes = TypeAdapter(dict[str, str])
                self.known = hashes.validate_python(read_json(path), strict=True)

    def model_hash(self, folder: Path, classifier: Path | None = None) -> str:
        """Hashes all weights and configs that decide samples; `ModelError` if a file is missing."""
        require_files(folder, PIPELINE_FILES, "diffusion")
        files = [folder / file for file in PIPELINE_FILES]
        if classifier is not None:
            require_files(classifier, (*CLASSIFIER_FILES, REPORT), "classifier")
            files += [classifier / file for file in CLASSIFIER_FILES]
        digest = hashlib.sha256()
        for file in files:
            digest.update(self.hash(file).encode())
        return digest.hexdigest()

    def hash(self, file: Path) -> str:
        """Returns the SHA-256 of a file, computed once while size and time stay the same."""
        state = file.stat()
        name = f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
        if name not in self.known:
            self.known[name] = sha256(file)
        return self.known[name]

    def save(self, path: Location) -> None:
        """Saves the hashes for the next run."""
        write_json(path, dict(sorted(self.known.items())))
