"""Evaluates fitted models on test images, with their labels.

OUT/
    index.html                  the metrics of all categories, those of earlier runs among them
    metrics.json  metrics.md    the same
    <category>/index.html       everything to look at
    <category>/scores.csv       one line per test image
    <category>/heatmaps/        the highest, lowest and borderline scores, as pictures
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.page import Shown, category_sections
from sia_gen.evaluation.results import (
    Result,
    category_result,
    scores_csv,
    selection_text,
    worth_looking_at,
)
from sia_gen.evaluation.scoring import ScoredImage, explained_scoring, score_images
from sia_gen.evaluation.summary import (
    PAGE,
    joined,
    read_summary,
    require_same_models,
    write_summary,
)
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.images.test_set import TestImage, count_test_images, list_test_images
from sia_gen.io.files import atomic_folder, shortened_stem, write_text
from sia_gen.io.locks import EVERYTHING
from sia_gen.realnet.loading import Fitted, check_realnet, find_realnet, load_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import predict_images
from sia_gen.report.heatmaps import save_heatmap
from sia_gen.report.page import Link, Page, write_page
from sia_gen.runtime.device import Runtime

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

    They join those that were evaluated in the same folder before.

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
        UserError: If a model or the test images are missing, or the output folder holds the
            evaluation of other models; nothing has been written then.
    """
    accelerator = runtime.accelerator()
    folders = {category: find_realnet(models, category) for category in categories}
    selected_on = {category: check_realnet(folder)[1] for category, folder in folders.items()}
    tests = {category: list_test_images(recipe, root, category) for category in categories}
    unreadable = {
        category: count_test_images(recipe, root, category) - len(images)
        for category, images in tests.items()
    }
    # Models beside an evaluation stay so when both are moved.
    about: dict[str, Any] = {
        "recipe": recipe.name,
        "models": os.path.relpath(models, out),
        "selected_on": selected_on,
        "unreadable": unreadable,
    }
    main = accelerator.is_main_process
    if main:
        require_same_models(out, about["models"])
    with claim_output(out, recipe, [], {"evaluation": EVERYTHING}, main=main):
        if main:
            # Whoever held the folder until now may have evaluated others.
            require_same_models(out, about["models"])
        return write_evaluation(recipe, folders, tests, about, out, runtime)


def write_evaluation(
    recipe: Recipe,
    folders: Mapping[str, Path],
    tests: Mapping[str, Sequence[TestImage]],
    about: Mapping[str, Any],
    out: Path,
    runtime: Runtime,
) -> dict[str, Any]:
    """Scores the test images and writes all that is told of them."""
    accelerator = runtime.accelerator()
    if accelerator.is_main_process:
        shutil.rmtree(out / PIXELS, ignore_errors=True)
        (out / PIXELS).mkdir()
    accelerator.wait_for_everyone()
    earlier = read_summary(out)
    results: dict[str, Result] = {}
    for folder, group in groupby(folders, key=lambda category: folders[category]):
        chosen = {category: tests[category] for category in group}
        results |= evaluate_model(folder, recipe, chosen, out, runtime)
    accelerator.wait_for_everyone()
    found = {
        **about,
        "categories": {name: result.metrics for name, result in results.items()},
        "defects": {name: result.defects for name, result in results.items()},
    }
    summary = joined(earlier, found, recipe.categories, out)
    if accelerator.is_main_process:
        shutil.rmtree(out / PIXELS)
        write_summary(out, recipe.title, summary)
    accelerator.wait_for_everyone()
    return summary


def evaluate_model(
    folder: Path,
    recipe: Recipe,
    tests: Mapping[str, Sequence[TestImage]],
    out: Path,
    runtime: Runtime,
) -> dict[str, Result]:
    """Scores the test images of the categories of one model, and lets go of it."""
    accelerator = runtime.accelerator()
    fitted = load_realnet(folder, channels_last=runtime.detector_channels_last)
    fitted.model.to(accelerator.device)
    results: dict[str, Result] = {}
    for category, images in tests.items():
        pixels = out / PIXELS / category
        pixels.mkdir(exist_ok=True)
        with explained_scoring(fitted.model):
            scores = score_images(fitted.model, recipe, category, images, pixels, accelerator)
        results[category] = category_result(scores, fitted.threshold)
        if accelerator.is_main_process:
            result = results[category]
            write_category(out / category, fitted, recipe, scores.images, result, accelerator)
    return results


def write_category(
    folder: Path,
    fitted: Fitted,
    recipe: Recipe,
    images: Sequence[ScoredImage],
    result: Result,
    accelerator: Accelerator,
) -> None:
    """Writes the folder of a category: its scores, the heat maps worth looking at, its page."""
    category, (model, threshold, selected_on) = folder.name, fitted
    with atomic_folder(folder) as temporary:
        write_text(temporary / "scores.csv", scores_csv(images, threshold))
        chosen = worth_looking_at(images, threshold, PICTURES)
        shown = write_heatmaps(temporary / "heatmaps", chosen, model, recipe, accelerator)
        title = f"{recipe.title}: evaluation of {category}"
        sections = category_sections(category, result, images, shown, model)
        text = selection_text({category: selected_on})
        above = Link("All categories", f"../{PAGE}")
        write_page(temporary / PAGE, Page(title, text, sections, above))


def write_heatmaps(
    folder: Path,
    chosen: Mapping[str, Sequence[ScoredImage]],
    model: RealNet,
    recipe: Recipe,
    accelerator: Accelerator,
) -> Shown:
    """Writes the heat maps of some images; returns them for the page."""
    folder.mkdir()
    number, shown = 0, Shown()
    for title, images in chosen.items():
        shown[title] = []
        for scored in images:
            pixels, anomaly_map = look_at(scored, model, recipe, accelerator)
            save_heatmap(folder / file_name(number, scored), pixels, anomaly_map)
            shown[title].append((scored, pixels, anomaly_map))
            number += 1
    return shown


def look_at(
    scored: ScoredImage, model: RealNet, recipe: Recipe, accelerator: Accelerator
) -> tuple[Any, Any]:
    """An image, (C, H, W), 0 to 255, and its anomaly map, (H, W)."""
    pixels = load_images([scored.image.path], ImageSpec.of(recipe, model.image_size))
    return pixels[0], predict_images(model, pixels, accelerator).maps[0]


def file_name(number: int, scored: ScoredImage) -> str:
    """What the picture of a heat map is called."""
    kind = "anomalous" if scored.image.label else "normal"
    name = shortened_stem(scored.image.path.stem)
    return f"{number:02d}_{kind}_{scored.score:.3f}_{name}.png"
