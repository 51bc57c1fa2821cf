"""Loads fitted RealNets from their folders, and scores batches of images with them."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat, ValidationError

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.errors import ModelError, first_line
from sia_gen.images.counted import Scope
from sia_gen.io.files import read_json
from sia_gen.io.refusals import ran_out
from sia_gen.io.tensors import misfit
from sia_gen.realnet.model import RealNet, RealNetOutput, damaged
from sia_gen.realnet.tiling import HighestMean
from sia_gen.runtime.device import is_compiled

REPORT = "fit.json"
# Version of the files in the folder of a model.
MODEL_VERSION = 2
BATCH_SIZE = 16

AnomalyMap = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Report(BaseModel):
    """The fields of a report that a model is loaded with."""

    model_version: int
    threshold: FiniteFloat
    selected_on: str


class Fitted(NamedTuple):
    """A model in eval mode, its threshold, and a description of the images that selected both."""

    model: RealNet
    threshold: float
    selected_on: str


def find_realnet(models: Path, category: str) -> Path:
    """Returns the folder of a category's own model, or of the joint model if there is none."""
    own, joint = models / category, models / JOINT
    return joint if joint.is_dir() and not own.is_dir() else own


def check_realnet(folder: Path) -> Report:
    """Returns the report of a model without loading it; `ModelError` if it is missing or damaged.

    It does not search the weights for values that are not finite.
    """
    for file in ("config.json", "model.safetensors", REPORT):
        if not (folder / file).is_file():
            # Of a run and of all categories, the folder is easily taken for that of the model.
            inside = sorted([*folder.glob(f"*/{REPORT}"), *folder.glob(f"realnet/*/{REPORT}")])
            fix = "Fit one with 'sia-gen fit-realnet', or give the folder of another."
            raise ModelError(
                problem=f"there is no RealNet in {folder} (no {file}).",
                fix=f"Give {inside[0].parent}." if inside else fix,
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
        report = Report.model_validate(content)
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
    return report


def recipe_of(folder: Path) -> Recipe:
    """Returns the recipe of a model, which says how it takes images; `ModelError` without one."""
    if not (folder / RECIPE).is_file():
        raise ModelError(
            problem=f"the RealNet in {folder} has no {RECIPE}, which says how it takes images.",
            fix="Copy it from where the model was fitted.",
        )
    return Recipe.load(folder / RECIPE)


def load_realnet(folder: Path, *, channels_last: bool = True) -> Fitted:
    """Loads a model from its folder; `ModelError` if it is missing or damaged."""
    report = check_realnet(folder)
    # The hub mixin prints where it loads from.
    with _explained(folder), redirect_stdout(None):
        model = RealNet.from_pretrained(folder, local_files_only=True)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return Fitted(model.eval(), report.threshold, report.selected_on)


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


class Predictions(NamedTuple):
    """Scores (N,) and anomaly maps (N, H, W) of N images, both float32 in [0, 1]."""

    scores: NDArray[np.float32]
    maps: AnomalyMap


@torch.no_grad()
def predict_images(
    model: RealNet,
    images: NDArray[np.uint8] | NDArray[np.float32],
    accelerator: Accelerator,
    batch_size: int = BATCH_SIZE,
    numbers: NDArray[np.int64] | None = None,
    scopes: Sequence[Scope] | None = None,
) -> Predictions:
    """Scores images (N, C, H, W), C = 1 or 3; 0 to 255 if uint8, else in [0, 1].

    The model scores in eval mode and keeps its mode. The batch size does not change the result
    beyond rounding. `numbers` are those of the images, (N,), if a memory holds them and is to leave
    them out. Without `scopes` everything counts in the scores; the maps are 0 where pixels of a
    picture do not.
    """
    was_training = model.training
    model.eval()
    scores, maps = [], []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        some = None if numbers is None else numbers[start : start + batch_size]
        output, number = output_of(model, batch, some, accelerator, batch_size), len(batch)
        score = output.score[:number]
        here = None if scopes is None else scopes[start : start + number]
        if here is not None:
            score = _scores_within(model, output.logits[:number], here)
        scores.append(score.float().cpu().numpy())
        found = output.anomaly_map[:number, 0].float().cpu().numpy()
        for one, (area, counted) in zip(found, here or (), strict=False):
            if counted is not None:
                area.cut(one)[~counted] = 0
        maps.append(found)
    model.train(was_training)
    require_numbers(np.concatenate(scores))
    return Predictions(np.concatenate(scores), np.concatenate(maps))


def _scores_within(model: RealNet, logits: torch.Tensor, scopes: Sequence[Scope]) -> torch.Tensor:
    """Returns the scores (B,) of images by what counts in them, from their logits."""
    scores = model.score_within(logits, [area for area, _ in scopes])
    values = model.averaged_map(logits)[:, 0].float()
    for number, (area, counted) in enumerate(scopes):
        if counted is not None:
            inside = area.cut(values[number]).cpu().numpy()
            highest = HighestMean(model.score_window, inside.shape)
            highest.add(inside, counted)
            scores[number] = model.probability(torch.tensor(highest.finish()))
    return scores


def output_of(
    model: RealNet,
    images: NDArray[np.uint8] | NDArray[np.float32],
    numbers: NDArray[np.int64] | None,
    accelerator: Accelerator,
    batch_size: int,
) -> RealNetOutput:
    """Returns the output of a model for at most `batch_size` images, maybe with some more rows."""
    batch = torch.from_numpy(images).to(accelerator.device)
    number, scale = len(batch), 255 if batch.dtype == torch.uint8 else 1
    if is_compiled(model) and number < batch_size:
        # A compiled network takes batches of one size only.
        batch = torch.cat([batch, batch[:1].expand(batch_size - number, -1, -1, -1)])
    some = () if numbers is None else (torch.from_numpy(numbers).to(accelerator.device),)
    with accelerator.autocast():
        output: RealNetOutput = model(batch.float() / scale, *some)
    return output


def require_numbers(scores: NDArray[np.float32]) -> None:
    """Raises `ModelError` if scores are NaN, because no threshold calls NaN anomalous."""
    if np.isnan(scores).any():
        raise ModelError(
            problem="the scores of the model are NaN: its weights are too large to compute with.",
            fix="Use --precision fp32; if that does not help, fit it again with a lower "
            "'realnet.learning_rate' and --no-resume.",
        )
