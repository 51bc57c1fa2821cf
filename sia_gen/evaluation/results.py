"""Metrics of a category from its scores, and the tables that show them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sia_gen.evaluation.pixels import PixelMetrics, pixel_metrics
from sia_gen.evaluation.scoring import ScoredImage, Scores
from sia_gen.images.test_set import GOOD, TestImage
from sia_gen.metrics import auroc, average_precision, f1_max

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
MEAN = "mean"


@dataclass(frozen=True)
class Result:
    """What is known of a category after its evaluation.

    Attributes:
        metrics: All figures; those of pixels only if masks mark any.
        defects: Some of them for every type of defect, against all good images.
        pixels: The metrics of pixels with their curves, if masks mark any.
    """

    metrics: dict[str, float]
    defects: dict[str, dict[str, float]]
    pixels: PixelMetrics | None


def category_result(scores: Scores, threshold: float) -> Result:
    """The metrics of a category."""
    pixels, regions = None, sum(scores.regions.values())
    if regions:
        files = [path for paths in scores.pixels.values() for path in paths]
        pixels = pixel_metrics(files, regions)
    figures = image_metrics(scores.images, threshold) | (pixels.figures() if pixels else {})
    names = sorted({scored.image.defect for scored in scores.images} - {GOOD})
    return Result(figures, {name: defect_metrics(scores, name) for name in names}, pixels)


def image_metrics(images: Sequence[ScoredImage], threshold: float) -> dict[str, float]:
    """The metrics of whole images."""
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


def defect_metrics(scores: Scores, defect: str) -> dict[str, float]:
    """The metrics of one type of defect, against all good images."""
    images = [scored for scored in scores.images if scored.image.defect in (GOOD, defect)]
    labels = [scored.image.label for scored in images]
    values: dict[str, float] = {
        "image_auroc": auroc(labels, [scored.score for scored in images]),
        "anomalous_images": sum(labels),
    }
    if regions := scores.regions.get(defect):
        files = scores.pixels[GOOD] + scores.pixels[defect]
        pixels = pixel_metrics(files, regions)
        values |= {"pixel_auroc": pixels.auroc, "pixel_pro": pixels.pro}
    return values


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over the categories that have a metric."""
    return {
        name: float(np.mean([one[name] for one in metrics if name in one]))
        for name in COLUMNS
        if any(name in one for one in metrics)
    }


def metrics_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """The metrics in percent, as the paper gives them: heads, categories, their mean."""
    columns = [name for name in COLUMNS if name in summary["mean"]]
    rows = [[summary["recipe"], *(COLUMNS[name] for name in columns)]]
    for name, values in [*summary["categories"].items(), (MEAN, summary["mean"])]:
        cells = (f"{100 * values[column]:.1f}" if column in values else "-" for column in columns)
        rows.append([name, *cells])
    return rows


def metrics_table(summary: Mapping[str, Any]) -> str:
    """The metrics as a Markdown table."""
    heads, *categories, (_, *means) = metrics_rows(summary)
    rows = [heads, ["---"] * len(heads), *categories, [f"**{MEAN}**", *means]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, f"\n{selection_text(summary['selected_on'])}\n"])


def selection_text(selected_on: Mapping[str, str]) -> str:
    """What chose the weights and the thresholds of these categories, as a sentence."""
    distinct = " / ".join(dict.fromkeys(selected_on.values()))
    return f"Weights and threshold were selected on {distinct}."


def scores_csv(images: Sequence[ScoredImage], threshold: float) -> str:
    """The scores as a table: image, label, defect, score, verdict."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "label", "defect", "score", "verdict"])
    kinds = ("normal", "anomalous")
    for scored in images:
        image, verdict = scored.image, kinds[scored.score > threshold]
        row = [image.name, kinds[image.label], image.defect, f"{scored.score:.6f}", verdict]
        writer.writerow(row)
    return buffer.getvalue()


def worth_looking_at(
    images: Sequence[ScoredImage], threshold: float, number: int
) -> dict[str, list[ScoredImage]]:
    """Some images of each kind that tells something; no image twice."""
    anomalous = sorted((one for one in images if one.image.label), key=lambda one: -one.score)
    normal = sorted((one for one in images if not one.image.label), key=lambda one: -one.score)
    borderline = sorted(images, key=lambda one: abs(one.score - threshold))
    groups = {
        "The surest defects": anomalous[:number],
        "The defects of the lowest scores": anomalous[::-1][:number],
        "The good images of the highest scores": normal[:number],
        "Nearest to the threshold": borderline[:number],
    }
    seen: set[TestImage] = set()
    for title, chosen in groups.items():
        groups[title] = [one for one in chosen if one.image not in seen]
        seen |= {one.image for one in chosen}
    return groups
