"""Loads fitted RealNet models, and says what is wrong with a folder that holds none."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, FiniteFloat, ValidationError

from sia_gen.config.recipe import JOINT
from sia_gen.errors import ModelError, first_line
from sia_gen.io.files import read_json
from sia_gen.io.refusals import ran_out
from sia_gen.io.tensors import misfit
from sia_gen.realnet.model import RealNet, damaged

REPORT = "fit.json"
# Version of the files in the folder of a model.
MODEL_VERSION = 1


class Fitted(NamedTuple):
    """A model in eval mode, its threshold, and a description of the images that selected both."""

    model: RealNet
    threshold: float
    selected_on: str


def find_realnet(models: Path, category: str) -> Path:
    """Returns the folder of a category's own model, or of the joint model if there is none."""
    own, joint = models / category, models / JOINT
    return joint if joint.is_dir() and not own.is_dir() else own


class _Report(BaseModel):
    """The fields of a report that a model is loaded with."""

    model_version: int
    threshold: FiniteFloat
    selected_on: str


def check_realnet(folder: Path) -> tuple[float, str]:
    """Checks a model without loading it; returns its threshold and `selected_on`, see `Fitted`.

    It does not search the weights for values that are not finite.

    Raises:
        ModelError: If the model is missing or damaged.
    """
    for file in ("config.json", "model.safetensors", REPORT):
        if not (folder / file).is_file():
            raise ModelError(
                problem=f"there is no RealNet in {folder} (no {file}).",
                fix="Fit one with 'sia-gen fit-realnet', or give its folder with --model.",
            )
    try:
        content = read_json(folder / REPORT)
        version = content.get("model_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version != MODEL_VERSION:
            raise ModelError(
                problem=f"the RealNet in {folder} has version {version}; this sia-gen reads "
                f"version {MODEL_VERSION}.",
                fix="Update sia-gen, or fit it again with 'sia-gen fit-realnet'.",
            )
        report = _Report.model_validate(content)
    except ValidationError as error:
        raise damaged(folder, f"{REPORT} is damaged") from error
    except (OSError, ValueError) as error:
        raise damaged(folder, f"{REPORT} is damaged ({first_line(error)})") from error
    with _explained(folder):
        config = read_json(folder / "config.json")
        unknown = config.keys() - inspect.signature(RealNet.__init__).parameters.keys()
        if unknown:
            raise damaged(folder, f"its config.json has '{min(unknown)}', which is unknown here")
        with torch.device("meta"):
            model = RealNet(**config)
        wrong = misfit(folder / "model.safetensors", model.state_dict(), values=False)
        if wrong is not None:
            raise damaged(folder, wrong)
    return report.threshold, report.selected_on


def load_realnet(folder: Path, *, channels_last: bool = True) -> Fitted:
    """Loads a model from its folder, in channels-last memory format or not.

    Raises:
        ModelError: If the model is missing or damaged.
    """
    threshold, selected_on = check_realnet(folder)
    # The hub mixin prints where it loads from.
    with _explained(folder), redirect_stdout(None):
        model = RealNet.from_pretrained(folder, local_files_only=True)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return Fitted(model.eval(), threshold, selected_on)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns the errors of damaged files, which may be of any kind, into a `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if ran_out(error):
            raise
        raise damaged(folder, first_line(error).rstrip(".")) from error
