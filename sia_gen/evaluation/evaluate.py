"""Evaluates fitted models on test images, the only place where their labels are read.

OUT/
    metrics.json  metrics.md
    <category>/scores.csv       one line per test image
    <category>/heatmaps/        the highest, lowest and borderline scores, as pictures
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from sia_gen.errors import ImageError
from sia_gen.evaluation.heatmaps import save_heatmap
from sia_gen.evaluation.metrics import auroc, average_precision, f1_max
from sia_gen.files import atomic_folder, write_json, write_text
from sia_gen.images.listing import list_images
from sia_gen.images.loading import load_images
from sia_gen.outputs import claim_output
from sia_gen.progress import Progress
from sia_gen.realnet.loading import load_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import predict_images
from sia_gen.realnet.selection import SELECTED_ON
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime

METRICS = "metrics.json"
BATCH_SIZE = 16
PICTURES = 8
COLUMNS = {
    "image_auroc": "AUROC",
    "image_average_precision": "AP",
    "image_f1_max": "F1-max",
    "image_f1_at_threshold": "F1 at threshold",
}


@dataclass(frozen=True)
class ScoredImage:
    """A test image, its label (1 is anomalous) and its score."""

    path: Path
    label: int
    score: float


def evaluate(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    models: Path,
    out: Path,
    runtime: Runtime,
) -> dict[str, Any]:
    """Scores the test images of some categories and writes metrics, scores and heat maps.

    Args:
        recipe: Names the data.
        categories: Those to evaluate.
        root: Folder of the images.
        models: Folder with one RealNet per category.
        out: Output folder, see above.
        runtime: Device and precision.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: If a model or the test images are missing; nothing has been written then.
    """
    accelerator = runtime.accelerator()
    loaded = {category: load_realnet(models / category) for category in categories}
    tests = {category: test_images(recipe, root, category) for category in categories}
    if accelerator.is_main_process:
        claim_output(out, recipe, [])
    results: dict[str, dict[str, float]] = {}
    for category, (model, threshold) in loaded.items():
        model.to(accelerator.device)
        scored = score_images(model, recipe, category, tests[category], accelerator)
        results[category] = category_metrics(scored, threshold)
        if accelerator.is_main_process:
            write_category(out / category, model, recipe, scored, threshold, accelerator)
    summary = {
        "recipe": recipe.name,
        "selected_on": SELECTED_ON,
        "categories": results,
        "mean": {
            name: float(np.mean([result[name] for result in results.values()])) for name in COLUMNS
        },
    }
    if accelerator.is_main_process:
        write_json(out / METRICS, summary)
        write_text(out / "metrics.md", metrics_table(summary))
    accelerator.wait_for_everyone()
    return summary


def test_images(recipe: Recipe, root: Path, category: str) -> list[tuple[Path, int]]:
    """Test images with their labels, normal ones first."""
    images = list_images(recipe, root, category)
    if not images.test_normal or not images.test_anomalous:
        kind = "anomalous" if images.test_normal else "normal"
        raise ImageError(
            problem=f"category '{category}' has no {kind} test images in {root}.",
            fix="Add 'test_normal' and 'test_anomalous' to the recipe's 'data.images', "
            "or check --data.",
        )
    return [(path, 0) for path in images.test_normal] + [
        (path, 1) for path in images.test_anomalous
    ]


def score_images(
    model: RealNet,
    recipe: Recipe,
    category: str,
    tests: Sequence[tuple[Path, int]],
    accelerator: Accelerator,
) -> list[ScoredImage]:
    """Scores the test images, shared out over the processes; all of them get all scores."""
    mine = range(accelerator.process_index, len(tests), accelerator.num_processes)
    scores: list[tuple[int, float]] = []
    title, visible = f"{category}: evaluating", accelerator.is_main_process
    with Progress(title, len(mine), visible=visible) as progress:
        for start in range(0, len(mine), BATCH_SIZE):
            indices = mine[start : start + BATCH_SIZE]
            images = load_images(
                [tests[index][0] for index in indices],
                recipe.mode,
                model.image_size,
                recipe.data.non_square,
            )
            predictions = predict_images(model, images, accelerator)
            scores += zip(indices, predictions.scores.tolist(), strict=True)
            progress.advance(len(indices))
    by_index = dict(gather_object(scores))
    return [ScoredImage(*test, by_index[index]) for index, test in enumerate(tests)]


def category_metrics(scored: Sequence[ScoredImage], threshold: float) -> dict[str, float]:
    """The image metrics of one category."""
    labels = np.array([image.label for image in scored])
    scores = np.array([image.score for image in scored])
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


def write_category(
    folder: Path,
    model: RealNet,
    recipe: Recipe,
    scored: Sequence[ScoredImage],
    threshold: float,
    accelerator: Accelerator,
) -> None:
    """Writes the scores and the heat maps worth looking at."""
    with atomic_folder(folder) as temporary:
        (temporary / "scores.csv").write_text(scores_csv(scored, threshold), encoding="utf-8")
        (temporary / "heatmaps").mkdir()
        for number, image in enumerate(worth_looking_at(scored, threshold)):
            pixels = load_images(
                [image.path], recipe.mode, model.image_size, recipe.data.non_square
            )
            anomaly_map = predict_images(model, pixels, accelerator).maps[0]
            kind = "anomalous" if image.label else "normal"
            name = f"{number:02d}_{kind}_{image.score:.3f}_{image.path.stem}.png"
            save_heatmap(temporary / "heatmaps" / name, pixels[0], anomaly_map)


def worth_looking_at(scored: Sequence[ScoredImage], threshold: float) -> list[ScoredImage]:
    """Best and worst anomalous, worst normal and borderline images, each once."""
    anomalous = sorted((i for i in scored if i.label), key=lambda i: -i.score)
    normal = sorted((i for i in scored if not i.label), key=lambda i: -i.score)
    borderline = sorted(scored, key=lambda i: abs(i.score - threshold))
    groups = (anomalous[:PICTURES], anomalous[-PICTURES:], normal[:PICTURES], borderline[:PICTURES])
    return list(dict.fromkeys(image for group in groups for image in group))


def scores_csv(scored: Sequence[ScoredImage], threshold: float) -> str:
    """The scores as a table: image, label, score, verdict."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "label", "score", "verdict"])
    kinds = ("normal", "anomalous")
    for image in scored:
        verdict = kinds[image.score > threshold]
        writer.writerow([image.path.name, kinds[image.label], f"{image.score:.6f}", verdict])
    return buffer.getvalue()


def metrics_table(summary: dict[str, Any]) -> str:
    """The metrics as a Markdown table, in percent as the paper gives them."""
    rows = {**summary["categories"], "**mean**": summary["mean"]}
    lines = [
        f"| {summary['recipe']} | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, values in rows.items():
        cells = " | ".join(f"{100 * values[column]:.1f}" for column in COLUMNS)
        lines.append(f"| {name} | {cells} |")
    lines.append(f"\nWeights and threshold were selected on {summary['selected_on']}.\n")
    return "\n".join(lines)
