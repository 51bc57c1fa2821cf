"""Opens fitted RealNet models from disk, with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from sia_gen.errors import ModelError, first_line
from sia_gen.realnet.fitting import JOINT, MODEL_VERSION, REPORT
from sia_gen.realnet.model import RealNet


class Fitted(NamedTuple):
    """A fitted model.

    Attributes:
        model: In eval mode.
        threshold: A score above it is anomalous.
        selected_on: What chose the weights and the threshold.
    """

    model: RealNet
    threshold: float
    selected_on: str


def find_realnet(models: Path, category: str) -> Path:
    """The folder of the model of a category: its own, or that of all."""
    own, joint = models / category, models / JOINT
    return joint if joint.is_dir() and not own.is_dir() else own


def require_version(folder: Path) -> None:
    """Raises `ModelError` if a folder is of a version that this sia-gen does not read."""
    try:
        version = json.loads((folder / REPORT).read_text())["model_version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            problem=f"cannot load the RealNet in {folder}: {REPORT} is damaged.",
            fix="Fit it again with 'sia-gen fit-realnet'.",
        ) from error
    if version != MODEL_VERSION:
        raise ModelError(
            problem=f"the RealNet in {folder} is of version {version}; this sia-gen reads version "
            f"{MODEL_VERSION}.",
            fix="Update sia-gen, or fit it again with 'sia-gen fit-realnet'.",
        )


def load_realnet(folder: Path) -> Fitted:
    """Loads a model from its folder.

    Raises:
        ModelError: If it is not there or damaged.
    """
    for file in ("config.json", "model.safetensors", REPORT):
        if not (folder / file).is_file():
            raise ModelError(
                problem=f"there is no RealNet in {folder} (no {file}).",
                fix="Fit one with 'sia-gen fit-realnet', or give its folder with --model.",
            )
    require_version(folder)
    try:
        # The hub mixin prints where it loads from.
        with contextlib.redirect_stdout(None):
            model = RealNet.from_pretrained(folder, local_files_only=True)
        report = json.loads((folder / REPORT).read_text())
        threshold, selected_on = float(report["threshold"]), str(report["selected_on"])
    # What a damaged file makes the hub client raise has no common base.
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise ModelError(
            problem=f"cannot load the RealNet in {folder} ({first_line(error)}).",
            fix="Fit it again with 'sia-gen fit-realnet'.",
        ) from error
    return Fitted(model.to(memory_format=torch.channels_last).eval(), threshold, selected_on)
