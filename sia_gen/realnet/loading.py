"""Opens fitted RealNet models from disk, with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import inspect
import math
from pathlib import Path
from typing import NamedTuple

import torch

from sia_gen.config.recipe import JOINT
from sia_gen.errors import ModelError, first_line
from sia_gen.io.json import read_json
from sia_gen.io.tensors import misfit
from sia_gen.realnet.model import RealNet, damaged
from sia_gen.runtime.out_of_memory import ran_out

REPORT = "fit.json"
# Of the folder of a model: what is in it and what that means.
MODEL_VERSION = 1


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


def read_report(folder: Path) -> tuple[float, str]:
    """Threshold and selection of a model, from its report.

    Raises:
        ModelError: If it is damaged, or of a version that this sia-gen does not read.
    """
    try:
        report = read_json(folder / REPORT)
        version = report["model_version"]
        if version == MODEL_VERSION:
            threshold, selected_on = float(report["threshold"]), str(report["selected_on"])
    except ValueError as error:
        raise damaged(folder, f"{REPORT} is damaged ({first_line(error)})") from error
    # What damaged files make the readers raise is whatever they happen to mean.
    except Exception as error:
        raise damaged(folder, f"{REPORT} is damaged") from error
    if version != MODEL_VERSION:
        raise ModelError(
            problem=f"the RealNet in {folder} is of version {version}; this sia-gen reads version "
            f"{MODEL_VERSION}.",
            fix="Update sia-gen, or fit it again with 'sia-gen fit-realnet'.",
        )
    if not math.isfinite(threshold):
        raise damaged(folder, f"the threshold in its {REPORT} is {threshold}")
    return threshold, selected_on


def require_config(folder: Path) -> None:
    """Checks that the config of a model has only what there is, and that it fits in memory."""
    config = read_json(folder / "config.json")
    unknown = config.keys() - inspect.signature(RealNet.__init__).parameters.keys()
    if unknown:
        raise damaged(folder, f"its config.json has '{min(unknown)}', which is unknown here")
    with torch.device("meta"):
        model = RealNet(**config)
    wrong = misfit(folder / "model.safetensors", model.state_dict(), values=False)
    if wrong is not None:
        raise damaged(folder, wrong)


def check_realnet(folder: Path) -> tuple[float, str]:
    """Checks that a folder holds a whole model, without loading it.

    Returns:
        Threshold and selection of the model.

    Raises:
        ModelError: If it is not there or damaged; values that are not finite are not looked for.
    """
    for file in ("config.json", "model.safetensors", REPORT):
        if not (folder / file).is_file():
            raise ModelError(
                problem=f"there is no RealNet in {folder} (no {file}).",
                fix="Fit one with 'sia-gen fit-realnet', or give its folder with --model.",
            )
    report = read_report(folder)
    try:
        require_config(folder)
    except ModelError:
        raise
    # What damaged files make the readers raise is whatever they happen to mean.
    except Exception as error:
        raise damaged(folder, first_line(error).rstrip(".")) from error
    return report


def load_realnet(folder: Path, *, channels_last: bool = True) -> Fitted:
    """Loads a model from its folder.

    Args:
        folder: Of the model.
        channels_last: Whether it computes in channels-last memory.

    Raises:
        ModelError: If it is not there or damaged.
    """
    threshold, selected_on = check_realnet(folder)
    try:
        # The hub mixin prints where it loads from.
        with contextlib.redirect_stdout(None):
            model = RealNet.from_pretrained(folder, local_files_only=True)
    except ModelError:
        raise
    except Exception as error:
        if ran_out(error):
            raise
        raise damaged(folder, first_line(error).rstrip(".")) from error
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return Fitted(model.eval(), threshold, selected_on)
