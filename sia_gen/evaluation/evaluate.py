"""Evaluates fitted models on test images, with their labels.

OUT/
    index.html                  the metrics of all categories, also of earlier runs
    metrics.json  metrics.md    the same metrics
    <category>/index.html       curves, heat maps and metrics by type of defect
    <category>/scores.csv       one line per test image
    <category>/heatmaps/        the highest, lowest and borderline scores, as pictures
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.pages import write_category, write_summary
from sia_gen.evaluation.pixels import append_pixels
from sia_gen.evaluation.results import (
    Result,
    ScoredImage,
    Scores,
    category_result,
    joined,
    read_summary,
    require_same_models,
)
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import count_test_images, list_test_images
from sia_gen.images.loading import ImageSpec
from sia_gen.io.locks import EVERYTHING
from sia_gen.realnet.loading import check_realnet, find_realnet, load_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import explained_scoring, predict_tests
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress

PIXELS = ".pixels"


def evaluate(
    recipe: Recipe, categories: Sequence[str], root: Path, models: Path, out: Path, runtime: Runtime
) -> dict[str, Any]:
    """Scores the test images of some categories and writes metrics, scores and heat maps.

    Categories that were evaluated in the same folder before stay in its summary.

    Args:
        root: Folder of the images.
        models: Folder with one RealNet per category, or a joint one.
        out: Output folder, see above.

    Returns:
        The content of `metrics.json`; see `sia_gen.evaluation.results.Summary`.

    Raises:
        UserError: If a model or the test images are missing, or the output folder holds the
            evaluation of other models; nothing has been written then.
    """
    accelerator = runtime.accelerator()
    folders = {category: find_realnet(models, category) for category in categories}
    selected_on = {category: check_realnet(folder)[1] for category, folder in folders.items()}
    tests = {category: list_test_images(recipe, root, category) for category in categories}
    about: dict[str, Any] = {
        "recipe": recipe.name,
        # A relative path stays true if the models and the evaluation move together.
        "models": os.path.relpath(models, out),
        "selected_on": selected_on,
        "unreadable": {
            category: count_test_images(recipe, root, category) - len(images)
            for category, images in tests.items()
        },
    }
    main = accelerator.is_main_process
    if main:
        require_same_models(out, about["models"])
    with claim_output(out, recipe, [], {"evaluation": EVERYTHING}, main=main):
        if main:
            # Another process may have evaluated other models before this one claimed the folder.
            require_same_models(out, about["models"])
            shutil.rmtree(out / PIXELS, ignore_errors=True)
            (out / PIXELS).mkdir()
        accelerator.wait_for_everyone()
        earlier = read_summary(out)
        results: dict[str, Result] = {}
        for folder, group in groupby(folders, key=lambda category: folders[category]):
            chosen = {category: tests[category] for category in group}
            results |= _evaluate_model(folder, recipe, chosen, out, runtime)
        accelerator.wait_for_everyone()
        about["categories"] = {name: result.metrics for name, result in results.items()}
        about["defects"] = {name: result.defects for name, result in results.items()}
        summary = joined(earlier, about, recipe.categories, out)
        if main:
            shutil.rmtree(out / PIXELS)
            write_summary(out, recipe.title, summary)
        accelerator.wait_for_everyone()
    return summary


def _evaluate_model(
    folder: Path,
    recipe: Recipe,
    tests: Mapping[str, Sequence[TestImage]],
    out: Path,
    runtime: Runtime,
) -> dict[str, Result]:
    """Evaluates the categories of one model, which is in memory no longer than this takes."""
    accelerator = runtime.accelerator()
    fitted = load_realnet(folder, channels_last=runtime.detector_channels_last)
    fitted.model.to(accelerator.device)
    results: dict[str, Result] = {}
    for category, images in tests.items():
        pixels = out / PIXELS / category
        pixels.mkdir(exist_ok=True)
        with explained_scoring(fitted.model):
            scores = _score_images(fitted.model, recipe, category, images, pixels, accelerator)
        results[category] = category_result(scores, fitted.threshold)
        if accelerator.is_main_process:
            write_category(out / category, recipe, fitted, results[category], accelerator)
    return results


def _score_images(
    model: RealNet,
    recipe: Recipe,
    category: str,
    tests: Sequence[TestImage],
    folder: Path,
    accelerator: Accelerator,
) -> Scores:
    """Scores test images, shared out over the processes; every process gets all scores.

    The scores of the pixels go to a folder that all processes share.
    """
    rank, spec = accelerator.process_index, ImageSpec.of(recipe, model.image_size)
    share = range(rank, len(tests), accelerator.num_processes)
    # A table may call its defects anything, so the files of their pixels have numbers as names.
    names = {test.defect: None for test in tests} if any(test.mask for test in tests) else {}
    numbers = {name: number for number, name in enumerate(names)}
    scores, regions, unmarked = list[float](), Counter[str](), list[str]()
    title, visible = f"{category}: evaluating", accelerator.is_main_process
    with Progress(title, len(share), visible=visible) as progress:
        mine = [tests[index] for index in share]
        for batch, predictions, masks in predict_tests(model, mine, spec, accelerator):
            scores += predictions.scores.tolist()
            for test, anomaly_map, mask in zip(batch, predictions.maps, masks, strict=True):
                if numbers:
                    path = folder / f"{numbers[test.defect]}-{rank}.pixels"
                    regions[test.defect] += append_pixels(path, anomaly_map, mask)
                    unmarked += [test.name] if test.label and not mask.any() else []
            progress.advance(len(batch))
    unmarked = sorted(gather_object(unmarked))
    if unmarked and visible:
        _warn_of_unmarked(category, unmarked, model.image_size)
    by_index = dict(gather_object(list(zip(share, scores, strict=True))))
    counted = sum((Counter(part) for part in gather_object([dict(regions)])), Counter[str]())
    return Scores(
        images=[ScoredImage(test, by_index[index]) for index, test in enumerate(tests)],
        regions=dict(counted),
        pixels={
            name: sorted(folder.glob(f"{number}-*.pixels")) for name, number in numbers.items()
        },
    )


def _warn_of_unmarked(category: str, names: Sequence[str], size: int) -> None:
    print(
        f"warning: {category}: the masks of {len(names)} anomalous images mark nothing at "
        f"{size} x {size} pixels, the first that of {names[0]}; their pixels count as normal.",
        file=sys.stderr,
    )
