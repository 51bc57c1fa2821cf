"""Evaluates fitted models on test images, with their labels.

OUT/
    index.html                  everything to look at
    metrics.json  metrics.md
    <category>/scores.csv       one line per test image
    <category>/heatmaps/        the highest, lowest and borderline scores, as pictures
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sia_gen.errors import OutputError
from sia_gen.evaluation.heatmaps import save_heatmap
from sia_gen.evaluation.report import Page, Section, write_page
from sia_gen.evaluation.results import (
    Result,
    category_result,
    mean_metrics,
    metrics_table,
    scores_csv,
    worth_looking_at,
)
from sia_gen.evaluation.scoring import ScoredImage, Scores, explained_scoring, score_images
from sia_gen.evaluation.sections import Shown, category_sections
from sia_gen.files import atomic_folder, shortened_stem, write_json, write_text
from sia_gen.images.loading import load_images
from sia_gen.images.test_set import TestImage, count_test_images, list_test_images
from sia_gen.locks import EVERYTHING
from sia_gen.outputs import claim_output
from sia_gen.realnet.loading import check_realnet, find_realnet, load_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import predict_images
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.strict_json import read_json

METRICS, SCORES = "metrics.json", "scores.csv"
PIXELS = ".pixels"
PICTURES = 8


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
        UserError: If a model or the test images are missing, or the output folder holds what this
            evaluation would not replace; nothing has been written then.
    """
    accelerator = runtime.accelerator()
    folders = {category: find_realnet(models, category) for category in categories}
    selections = [check_realnet(folder)[1] for folder in folders.values()]
    tests = {category: list_test_images(recipe, root, category) for category in categories}
    unreadable = {
        category: count_test_images(recipe, root, category) - len(images)
        for category, images in tests.items()
    }
    # Models beside an evaluation stay so when both are moved.
    about: dict[str, Any] = {
        "recipe": recipe.name,
        "models": os.path.relpath(models, out),
        "selected_on": " / ".join(dict.fromkeys(selections)),
        "unreadable": unreadable,
    }
    main = accelerator.is_main_process
    if main:
        require_replaceable(out, categories, about["models"])
    with claim_output(out, recipe, [], {"evaluation": EVERYTHING}, main=main):
        return write_evaluation(recipe, folders, tests, about, out, accelerator)


def require_replaceable(out: Path, categories: Sequence[str], models: str) -> None:
    """Refuses a folder of which an evaluation would leave a part, or take that of other models.

    Raises:
        OutputError: If it is one.
    """
    kept = sorted({path.parent.name for path in out.glob(f"*/{SCORES}")} - {*categories})
    if kept:
        raise OutputError(
            problem=f"{out} already holds the evaluation of '{kept[0]}'.",
            fix=f"Evaluate both with --category {kept[0]}, choose another folder with --out, or "
            "delete it.",
        )
    earlier = models
    # A damaged report is none; it is replaced.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        earlier = read_json(out / METRICS).get("models", models)
    if earlier != models:
        raise OutputError(
            problem=f"{out} already holds the evaluation of the models in "
            f"{os.path.normpath(out / str(earlier))}.",
            fix="Choose another folder with --out, or delete it.",
        )


def write_evaluation(
    recipe: Recipe,
    folders: Mapping[str, Path],
    tests: Mapping[str, Sequence[TestImage]],
    about: Mapping[str, Any],
    out: Path,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Scores the test images and writes all that is told of them."""
    if accelerator.is_main_process:
        shutil.rmtree(out / PIXELS, ignore_errors=True)
        (out / PIXELS).mkdir()
    accelerator.wait_for_everyone()
    results: dict[str, Result] = {}
    sections: list[Section] = []
    for folder, group in groupby(folders, key=lambda category: folders[category]):
        chosen = {category: tests[category] for category in group}
        found, told = evaluate_model(folder, recipe, chosen, out, accelerator)
        results |= found
        sections += told
    accelerator.wait_for_everyone()
    summary = {
        **about,
        "categories": {name: result.metrics for name, result in results.items()},
        "defects": {name: result.defects for name, result in results.items()},
        "mean": mean_metrics(list(results.values())),
    }
    if accelerator.is_main_process:
        shutil.rmtree(out / PIXELS)
        write_json(out / METRICS, summary)
        write_text(out / "metrics.md", metrics_table(summary))
        text = f"Weights and thresholds were selected on {about['selected_on']}."
        write_page(out / "index.html", Page(f"{recipe.title}: evaluation", text, sections))
    accelerator.wait_for_everyone()
    return summary


def evaluate_model(
    folder: Path,
    recipe: Recipe,
    tests: Mapping[str, Sequence[TestImage]],
    out: Path,
    accelerator: Accelerator,
) -> tuple[dict[str, Result], list[Section]]:
    """Scores the test images of the categories of one model, and lets go of it.

    Returns:
        The results by category, and in the first process what the page shows of them.
    """
    model, threshold, _ = load_realnet(folder)
    model.to(accelerator.device)
    results: dict[str, Result] = {}
    sections: list[Section] = []
    for category, images in tests.items():
        pixels = out / PIXELS / category
        pixels.mkdir(exist_ok=True)
        with explained_scoring(model):
            scores = score_images(model, recipe, category, images, pixels, accelerator)
        results[category] = category_result(scores, threshold)
        if accelerator.is_main_process:
            shown = write_category(out / category, model, recipe, scores, threshold, accelerator)
            sections += category_sections(category, results[category], scores.images, shown, model)
    return results, sections


def write_category(
    folder: Path,
    model: RealNet,
    recipe: Recipe,
    scores: Scores,
    threshold: float,
    accelerator: Accelerator,
) -> Shown:
    """Writes the scores and the heat maps worth looking at; returns these for the page."""
    shown: Shown = {}
    with atomic_folder(folder) as temporary:
        write_text(temporary / SCORES, scores_csv(scores.images, threshold))
        (temporary / "heatmaps").mkdir()
        number = 0
        for title, chosen in worth_looking_at(scores.images, threshold, PICTURES).items():
            shown[title] = []
            for scored in chosen:
                pixels, anomaly_map = look_at(scored, model, recipe, accelerator)
                save_heatmap(
                    temporary / "heatmaps" / file_name(number, scored), pixels, anomaly_map
                )
                shown[title].append((scored, pixels, anomaly_map))
                number += 1
    return shown


def look_at(
    scored: ScoredImage, model: RealNet, recipe: Recipe, accelerator: Accelerator
) -> tuple[Any, Any]:
    """An image, (C, H, W), 0 to 255, and its anomaly map, (H, W)."""
    path, non_square = scored.image.path, recipe.data.non_square
    pixels = load_images([path], recipe.mode, model.image_size, non_square)
    return pixels[0], predict_images(model, pixels, accelerator).maps[0]


def file_name(number: int, scored: ScoredImage) -> str:
    """What the picture of a heat map is called."""
    kind = "anomalous" if scored.image.label else "normal"
    name = shortened_stem(scored.image.path.stem)
    return f"{number:02d}_{kind}_{scored.score:.3f}_{name}.png"
