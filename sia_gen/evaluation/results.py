"""Metrics of a category from its scores, and the summary of all categories in a folder."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from sia_gen.config.recipe_file import Name
from sia_gen.errors import OutputError
from sia_gen.evaluation.pixels import PixelMetrics, pixel_metrics
from sia_gen.images.layouts import GOOD, TestImage
from sia_gen.io.files import read_json
from sia_gen.metrics import auroc, average_precision, f1_max
from sia_gen.runtime.progress import in_percent

METRICS, MEAN = "metrics.json", "mean"
BY_CATEGORY = ("selected_on", "unreadable", "learnt", "categories", "defects")
COLUMNS = {
    "image_auroc": "AUROC",
    "image_average_precision": "AP",
    "image_f1_max": "F1-max",
    "image_f1_at_threshold": "F1 at threshold",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "pixel_pro": "PRO",
    "pixel_pro_5": "PRO to 0.05",
    "false_alarm_rate": "false alarms",
}

# Counts stay whole numbers; what cannot be measured is None.
Figures = dict[str, int | float | None]


class ScoredImage(NamedTuple):
    """A test image, its score in [0, 1], and the number of regions that its mask marks."""

    image: TestImage
    score: float
    regions: int = 0


@dataclass(frozen=True)
class Result:
    """The metrics of a category, and some by type of defect, each against all good images.

    Those of pixels are None, without curves, unless masks mark any; so are those of images, except
    the share of false alarms, if all images are good.
    """

    images: list[ScoredImage]
    metrics: Figures
    defects: dict[str, Figures]
    pixels: PixelMetrics | None


def category_result(
    images: list[ScoredImage], files: Mapping[str, list[Path]], threshold: float
) -> Result:
    """Computes the metrics of a category from its images, and its pixels in files by defect."""
    metrics: Figures = dict.fromkeys(COLUMNS)
    metrics |= _image_metrics(images, threshold)
    pixels = None
    if regions := sum(scored.regions for scored in images):
        pixels = pixel_metrics([*chain.from_iterable(files.values())], regions)
        metrics |= pixels.figures()
    defects: dict[str, Figures] = {}
    for name in sorted({scored.image.defect for scored in images} - {GOOD}):
        chosen = [scored for scored in images if scored.image.defect in (GOOD, name)]
        labels = [scored.image.label for scored in chosen]
        defects[name] = {
            "image_auroc": auroc(labels, [scored.score for scored in chosen]),
            "anomalous_images": sum(labels),
            "masked_images": _count_masked(chosen),
            "pixel_auroc": None,
            "pixel_pro": None,
        }
        if regions := sum(scored.regions for scored in chosen):
            # Of large photographs they take minutes, so those of the only kind are not made twice.
            known = pixels if len(chosen) == len(images) else None
            found = known or pixel_metrics(files[GOOD] + files[name], regions)
            defects[name] |= {"pixel_auroc": found.auroc, "pixel_pro": found.pro}
    return Result(images, metrics, defects, pixels)


def _image_metrics(images: Sequence[ScoredImage], threshold: float) -> Figures:
    labels = np.array([scored.image.label for scored in images])
    scores = np.array([scored.score for scored in images])
    called = scores > threshold
    hits = float((called & (labels == 1)).sum())
    figures: Figures = {
        "false_alarm_rate": float(called[labels == 0].mean()),
        "threshold": threshold,
        "normal_images": int((labels == 0).sum()),
        "anomalous_images": int(labels.sum()),
        "masked_images": _count_masked(images),
    }
    if labels.any():
        figures |= {
            "image_auroc": auroc(labels, scores),
            "image_average_precision": average_precision(labels, scores),
            "image_f1_max": f1_max(labels, scores)[0],
            "image_f1_at_threshold": 2 * hits / float(called.sum() + labels.sum()),
        }
    return figures


def _count_masked(images: Iterable[ScoredImage]) -> int:
    return sum(one.image.label and one.image.mask is not None for one in images)


class Summary(BaseModel):
    """The content of `metrics.json`, mostly by category."""

    model_config = ConfigDict(extra="forbid", strict=True)

    recipe: str
    models: str  # their folder, relative to that of the evaluation
    selected_on: dict[Name, str]  # images that selected the weights and the threshold
    unreadable: dict[Name, int]  # number of test images that were left out
    # Number of test images that were left out because the model learnt from them; None if it does
    # not say from which it did.
    learnt: dict[Name, int | None] = {}
    categories: dict[Name, Figures]
    defects: dict[Name, dict[str, Figures]]
    mean: Figures  # over the categories


def in_figures(name: str, value: float | None) -> str:
    """Formats a metric or a count of images; the rate of false alarms is a share of images."""
    if value is None:
        return "-"
    if name == "false_alarm_rate":
        return in_percent(value, 1)
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def read_summary(out: Path, models: str) -> dict[str, Any]:
    """Returns the fields of the `Summary` of these models in a folder, empty if there is none."""
    path = out / METRICS
    try:
        earlier = Summary.model_validate(read_json(path))
    except FileNotFoundError:
        return {field: {} for field in BY_CATEGORY}
    except ValueError as error:
        # To replace it would lose its results.
        raise OutputError(
            problem=f"{path} is damaged, or of another version of sia-gen.",
            fix="Delete it and evaluate all categories again, or choose another folder with --out.",
        ) from error
    if earlier.models != models:
        raise OutputError(
            problem=f"{out} already holds the evaluation of the models in "
            f"{os.path.normpath(out / earlier.models)}.",
            fix="Choose another folder with --out, or delete it.",
        )
    return earlier.model_dump()


def joined(
    old: Mapping[str, Any], new: Mapping[str, Any], order: Sequence[str], out: Path
) -> dict[str, Any]:
    """Adds the categories of an earlier `Summary` to those of a run, and computes the mean.

    They are in the order of the recipe; those that it no longer has come last, and those whose
    folder in `out` is gone are left out.
    """
    summary = {**new}
    for field in BY_CATEGORY:
        kept = {name: value for name, value in old[field].items() if (out / name).is_dir()}
        values = kept | new[field]
        names = dict.fromkeys([*order, *values])
        summary[field] = {name: values[name] for name in names if name in values}
    metrics = summary["categories"].values()
    found = {name: [one[name] for one in metrics if one.get(name) is not None] for name in COLUMNS}
    mean = {name: float(np.mean(values)) if values else None for name, values in found.items()}
    return {**summary, MEAN: mean}


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
