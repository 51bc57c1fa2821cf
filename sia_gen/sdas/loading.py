"""Opens SDAS pipelines from disk, with errors that say what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

from diffusers.utils.logging import disable_progress_bar

from sia_gen.errors import ModelError
from sia_gen.files import sha256
from sia_gen.recipe import Recipe
from sia_gen.sdas.pipeline import SDASPipeline

PARTS = ("scheduler/scheduler_config.json", "unet/config.json")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
# The folder of a class-conditional model of all categories; no category can be named so.
JOINT = "_joint"
# What a training says of its model, beside the weights.
REPORT = "training.json"


def load_pipeline(folder: Path, recipe: Recipe) -> SDASPipeline:
    """Loads the pipeline of one category.

    Raises:
        ModelError: If it is not there, damaged, or of another image mode than the recipe's.
    """
    check_pipeline(folder)
    disable_progress_bar()
    try:
        pipeline: SDASPipeline = SDASPipeline.from_pretrained(folder, local_files_only=True)
    # What a damaged config makes diffusers raise has no common base of its own.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            problem=f"cannot load the model in {folder}: {' '.join(str(error).split())}",
            fix="Train it again with 'sia-gen train-diffusion'.",
        ) from error
    channels = pipeline.unet.config.in_channels
    if channels != len(recipe.mode):
        raise ModelError(
            problem=f"the model in {folder} makes images of {channels} channels, "
            f"but the recipe's mode is '{recipe.mode}'.",
            fix="Use the recipe the model was trained with; it lies beside it.",
        )
    return pipeline


def model_hash(folder: Path) -> str:
    """A hash of what decides the samples: weights and configs of a pipeline folder."""
    check_pipeline(folder)
    digest = hashlib.sha256()
    for part in (*PARTS, WEIGHTS):
        digest.update(sha256(folder / part).encode())
    return digest.hexdigest()


def check_pipeline(folder: Path) -> None:
    """Raises `ModelError` unless the folder has the files of a pipeline."""
    for part in (*PARTS, WEIGHTS):
        if not (folder / part).is_file():
            raise ModelError(
                problem=f"there is no diffusion model in {folder} (no {part}).",
                fix="Train one with 'sia-gen train-diffusion', or give its folder with --model.",
            )
