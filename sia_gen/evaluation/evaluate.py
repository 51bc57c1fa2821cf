"""Evaluates fitted models on test images, with their labels.

OUT/
    index.html                  the metrics of all categories, also of earlier runs
    metrics.json  metrics.md    the same metrics
    <category>/index.html       curves, heat maps and metrics by type of defect
    <category>/threshold.html   a slider that judges every image anew; see `threshold_page.py`
    <category>/scores.csv       one line per test image
    <category>/heatmaps/        the highest, lowest and borderline scores, as pictures
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.pages import write_category, write_summary
from sia_gen.evaluation.pixels import append_pixels
from sia_gen.evaluation.results import Result, ScoredImage, category_result, joined, read_summary
from sia_gen.evaluation.threshold_page import FOLDER, picture_name, save_pictures
from sia_gen.evaluation.unseen import say_shapes_of, unseen_tests
from sia_gen.images.counted import load_counted
from sia_gen.images.ground_truth import check_masks
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import list_test_images, split_images
from sia_gen.images.loading import ImageSpec, area_looked_at
from sia_gen.images.opening import upright_size
from sia_gen.images.strips import is_large
from sia_gen.io.files import FileGroups
from sia_gen.io.locks import EVERYTHING
from sia_gen.realnet.inference import (
    check_realnet,
    find_realnet,
    load_realnet,
    recipe_of,
)
from sia_gen.realnet.many import predict_tests
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress

PIXELS = ".pixels"


def evaluate(
    recipe: Recipe, categories: Sequence[str], root: Path, models: Path, out: Path, runtime: Runtime
) -> dict[str, Any]:
    """Scores the test images of some categories and writes metrics, scores and heat maps.

    Returns the content of `metrics.json`, see `sia_gen.evaluation.results.Summary`. Categories that
    were evaluated in the same folder before stay in it. Missing models or test images, and a folder
    with the evaluation of other models, are refused before anything is written, and so are masks
    that cannot be used.
    """
    accelerator = runtime.accelerator()
    folders = {category: find_realnet(models, category) for category in categories}
    reports = {category: check_realnet(folder) for category, folder in folders.items()}
    # How a model takes images, whatever the recipe says now.
    own = {folder: recipe_of(folder) for folder in folders.values()}
    tests = {category: list_test_images(recipe, root, category) for category in categories}
    for category, images in tests.items():
        check_masks(images, category)
    found = {category: split_images(recipe, root, category) for category in categories}
    unseen = {
        name: unseen_tests(folders[name], name, images, root) for name, images in tests.items()
    }
    say_shapes_of([(images, own[folders[name]]) for name, (images, _) in unseen.items()])
    about: dict[str, Any] = {
        "recipe": recipe.name,
        # A relative path stays true if the models and the evaluation move together.
        "models": os.path.relpath(models, out),
        "selected_on": {category: report.selected_on for category, report in reports.items()},
        "unreadable": {
            name: len(all_.test_normal) + len(all_.test_anomalous) - len(tests[name])
            for name, all_ in found.items()
        },
        "learnt": {name: learnt for name, (_, learnt) in unseen.items()},
    }
    main, parts = accelerator.is_main_process, {"evaluation": EVERYTHING}
    read_summary(out, about["models"])
    # Categories may be evaluated on images that are arranged in other ways.
    with claim_output(out, recipe, [], parts, main=main, always=["name"]):
        # Another process may have evaluated other models before this one claimed the folder.
        earlier = read_summary(out, about["models"])
        if main:
            shutil.rmtree(out / PIXELS, ignore_errors=True)
            (out / PIXELS).mkdir()
        accelerator.wait_for_everyone()
        results: dict[str, Result] = {}
        for folder, group in groupby(folders, key=lambda category: folders[category]):
            chosen = {category: unseen[category][0] for category in group}
            results |= _evaluate_model(folder, own[folder], chosen, out, runtime)
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
    spec = ImageSpec.of(recipe, fitted.model.image_size)
    results: dict[str, Result] = {}
    for category, images in tests.items():
        pixels = out / PIXELS / category
        (pixels / FOLDER).mkdir(parents=True, exist_ok=True)
        scores = _score_images(fitted.model, spec, category, images, pixels, accelerator)
        results[category] = category_result(*scores, fitted.threshold)
        if accelerator.is_main_process:
            write_category(
                out / category, recipe, fitted, results[category], pixels / FOLDER, accelerator
            )
    return results


def _score_images(
    model: RealNet,
    spec: ImageSpec,
    category: str,
    tests: Sequence[TestImage],
    folder: Path,
    accelerator: Accelerator,
) -> tuple[list[ScoredImage], dict[str, list[Path]]]:
    """Scores test images, shared out over the processes; every process gets all scores.

    Of large photographs that are cut into tiles, the tiles of each are shared out.

    Writes pictures of all of them into a folder. Returns the scores with the files of the scores of
    the pixels by defect, also `good`, in that folder, which all processes share; none without
    masks. Anomalous images without a mask have no pixels there.
    """
    rank, count = accelerator.process_index, accelerator.num_processes
    large = [number for number, test in enumerate(tests) if count > 1 and is_large(test.path, spec)]
    others = [number for number in range(len(tests)) if number not in large][rank::count]
    share = large[rank::count] + others
    # A table may call its defects anything, so the files of their pixels have numbers as names.
    names = {test.defect: None for test in tests} if any(test.mask for test in tests) else {}
    numbers = {name: number for number, name in enumerate(names)}
    found = list[tuple[int, float, int]]()
    title, visible = f"{category}: evaluating", accelerator.is_main_process
    with (
        Progress(title, len(share), visible=visible) as progress,
        FileGroups() as pictures,
    ):
        together = predict_tests(
            model,
            [tests[index] for index in large],
            spec,
            accelerator,
            owner=lambda place: place % count,
        )
        alone = predict_tests(model, [tests[index] for index in others], spec, accelerator)
        scored = chain(together, alone)
        for index, (test, mask, score, anomaly_map) in zip(share, scored, strict=True):
            regions = 0
            if numbers and (test.mask or not test.label):
                path = folder / f"{numbers[test.defect]}-{rank}.pixels"
                counted = load_counted(test.path, spec)
                regions = append_pixels(path, anomaly_map, mask, counted)
            found.append((index, score, regions))
            size = upright_size(test.path)
            save_pictures(
                pictures,
                folder / FOLDER / picture_name(index),
                test.path,
                spec.white,
                size,
                anomaly_map,
                area_looked_at(size, spec),
            )
            if spec.tile is not None:
                # Their maps are large, so none waits for others.
                pictures.publish()
            progress.advance()
    images = [
        ScoredImage(tests[index], score, regions)
        for index, score, regions in sorted(gather_object(found))
    ]
    if numbers and visible:
        _report_masks(category, images, None if spec.tile else model.image_size)
    files = {name: sorted(folder.glob(f"{number}-*.pixels")) for name, number in numbers.items()}
    return images, files


def _report_masks(category: str, images: Sequence[ScoredImage], size: int | None) -> None:
    """Says on stderr which anomalous images have no mask, or one that marks nothing.

    `size` is that which images were resized to.
    """
    anomalous = sorted((one for one in images if one.image.label), key=lambda one: one.image.name)
    without = [one.image.name for one in anomalous if one.image.mask is None]
    if without:
        print(
            f"{category}: {len(without)} of {len(anomalous)} anomalous images have no mask, the "
            f"first {without[0]}; the metrics of pixels are those of the others.",
            file=sys.stderr,
        )
    unmarked = [one.image.name for one in anomalous if one.image.mask and not one.regions]
    if unmarked:
        at = "" if size is None else f" at {size} x {size} pixels"
        print(
            f"warning: {category}: the masks of {len(unmarked)} anomalous images mark nothing{at}, "
            f"the first that of {unmarked[0]}; their pixels count as normal.",
            file=sys.stderr,
        )
