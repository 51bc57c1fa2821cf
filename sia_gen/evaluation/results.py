"""Metrics of a category from its scores, and the summary of all categories in a folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sia_gen.config.recipe_file import Name
from sia_gen.errors import OutputError
from sia_gen.evaluation.pixels import PixelMetrics, pixel_metrics
from sia_gen.images.test_set import GOOD, TestImage
from sia_gen.io.files import read_json
from sia_gen.metrics import auroc, average_precision, f1_max

METRICS, MEAN = "metrics.json", "mean"
BY_CATEGORY = ("selected_on", "unreadable", "categories", "defects")
COLUMNS = {
    "image_auroc": "AUROC",
    "image_average_precision": "AP",
    "image_f1_max": "F1-max",
    "image_f1_at_threshold": "F1 at threshold",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "pixel_pro": "PRO",
    "pixel_pro_5": "PRO to 5 %",
}

# Counts stay whole numbers.
Figures = dict[str, int | float]


@dataclass(frozen=True)
class ScoredImage:
    """A test image and its score in [0, 1]."""

    image: TestImage
    score: float


@dataclass(frozen=True)
class Scores:
    """The scores of a category.

    Attributes:
        regions: Number of anomalous regions by defect.
        pixels: Files with the scores of the pixels by defect, also `good`; none without masks.
    """

    images: list[ScoredImage]
    regions: dict[str, int]
    pixels: dict[str, list[Path]]


@dataclass(frozen=True)
class Result:
    """The metrics of a category, and some by type of defect, each against all good images.

    Those of pixels, with their curves, are there only if masks mark any.
    """

    images: list[ScoredImage]
    metrics: Figures
    defects: dict[str, Figures]
    pixels: PixelMetrics | None


def category_result(scores: Scores, threshold: float) -> Result:
    """Computes the metrics of a category."""
    pixels, regions = None, sum(scores.regions.values())
    if regions:
        files = [path for paths in scores.pixels.values() for path in paths]
        pixels = pixel_metrics(files, regions)
    metrics = _image_metrics(scores.images, threshold) | (pixels.figures() if pixels else {})
    names = sorted({scored.image.defect for scored in scores.images} - {GOOD})
    defects = {name: _defect_metrics(scores, name) for name in names}
    return Result(scores.images, metrics, defects, pixels)


def _image_metrics(images: Sequence[ScoredImage], threshold: float) -> Figures:
    labels = np.array([scored.image.label for scored in images])
    scores = np.array([scored.score for scored in images])
    called = scores > threshold
    hits = float((called & (labels == 1)).sum())
    return {
        "image_auroc": auroc(labels, scores),
        "image_average_precision": average_precision(labels, scores),
        "image_f1_max": f1_max(labels, scores)[0],
        "image_f1_at_threshold": 2 * hits / float(called.sum() + labels.sum()),
        "threshold": threshold,
        "normal_images": int((labels == 0).sum()),
        "anomalous_images": int(labels.sum()),
    }


def _defect_metrics(scores: Scores, defect: str) -> Figures:
    images = [scored for scored in scores.images if scored.image.defect in (GOOD, defect)]
    labels = [scored.image.label for scored in images]
    values: Figures = {
        "image_auroc": auroc(labels, [scored.score for scored in images]),
        "anomalous_images": sum(labels),
    }
    if regions := scores.regions.get(defect):
        pixels = pixel_metrics(scores.pixels[GOOD] + scores.pixels[defect], regions)
        values |= {"pixel_auroc": pixels.auroc, "pixel_pro": pixels.pro}
    return values


class Summary(BaseModel):
    """The content of `metrics.json`, mostly by category.

    Attributes:
        models: Folder of the models, relative to that of the evaluation.
        selected_on: Images that selected the weights and the threshold.
        unreadable: Number of test images that were left out.
        defects: Metrics by type of defect.
        mean: Mean of the metrics over the categories.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    recipe: str
    models: str
    selected_on: dict[Name, str]
    unreadable: dict[Name, int]
    categories: dict[Name, Figures]
    defects: dict[Name, dict[str, Figures]]
    mean: Figures


def read_summary(out: Path) -> dict[str, Any]:
    """Returns the fields of the `Summary` in a folder, empty ones if there is none.

    Raises:
        OutputError: If it is damaged; replacing it would lose its results.
    """
    path = out / METRICS
    try:
        return Summary.model_validate(read_json(path)).model_dump()
    except FileNotFoundError:
        return {field: {} for field in BY_CATEGORY}
    except ValueError as error:
        raise OutputError(
            problem=f"{path} is damaged, or of another version of sia-gen.",
            fix="Delete it and evaluate all categories again, or choose another folder with --out.",
        ) from error


def require_same_models(out: Path, models: str) -> None:
    """Raises `OutputError` if a folder holds the evaluation of other models, or is damaged."""
    earlier = read_summary(out).get("models", models)
    if earlier != models:
        raise OutputError(
            problem=f"{out} already holds the evaluation of the models in "
            f"{os.path.normpath(out / earlier)}.",
            fix="Choose another folder with --out, or delete it.",
        )


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
    return {**summary, MEAN: _mean_metrics(list(summary["categories"].values()))}


def _mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Averages each metric over the categories that have it."""
    return {
        name: float(np.mean([one[name] for one in metrics if name in one]))
        for name in COLUMNS
        if any(name in one for one in metrics)
    }


def metrics_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Returns a table of the metrics in percent: heads, categories, their mean."""
    columns = [name for name in COLUMNS if name in summary[MEAN]]
    rows = [[summary["recipe"], *(COLUMNS[name] for name in columns)]]
    for name, values in [*summary["categories"].items(), (MEAN, summary[MEAN])]:
        cells = (f"{100 * values[column]:.1f}" if column in values else "-" for column in columns)
        rows.append([name, *cells])
    return rows


def metrics_table(summary: Mapping[str, Any]) -> str:
    """Returns the metrics as a Markdown table."""
    heads, *categories, (_, *means) = metrics_rows(summary)
    rows = [heads, ["---"] * len(heads), *categories, [f"**{MEAN}**", *means]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, f"\n{selection_text(summary['selected_on'])}\n"])


def selection_text(selected_on: Mapping[str, str]) -> str:
    """Says which images selected the weights and the thresholds of these categories."""
    distinct = " / ".join(dict.fromkeys(selected_on.values()))
    return f"Weights and threshold were selected on {distinct}."
