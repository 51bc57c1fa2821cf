"""Scores the test images of a category, shared out over the processes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.pixels import append_pixels
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.test_set import TestImage, load_mask
from sia_gen.io.files import batches_ahead, worker_threads
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import BATCH_SIZE, predict_images
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import batches_of


@dataclass(frozen=True)
class ScoredImage:
    """A test image and its score in [0, 1]."""

    image: TestImage
    score: float


@dataclass(frozen=True)
class Scores:
    """What scoring a category gives.

    Attributes:
        images: The test images with their scores.
        regions: Anomalous regions by defect; none of those whose masks mark nothing.
        pixels: By defect, and `good`, the files with the scores of the pixels; none without masks.
    """

    images: list[ScoredImage]
    regions: dict[str, int]
    pixels: dict[str, list[Path]]


def score_images(
    model: RealNet,
    recipe: Recipe,
    category: str,
    tests: Sequence[TestImage],
    folder: Path,
    accelerator: Accelerator,
) -> Scores:
    """Scores the test images; every process gets the scores of all.

    Args:
        model: On the device.
        recipe: Says how images are read.
        category: For the progress.
        tests: The images.
        folder: For the scores of pixels; all processes reach it.
        accelerator: Device, precision and processes.
    """
    mine = range(accelerator.process_index, len(tests), accelerator.num_processes)
    with_masks = any(test.mask for test in tests)
    # A table may call its defects anything; their numbers make better names of files.
    names = dict.fromkeys(test.defect for test in tests) if with_masks else ()
    defects = {name: number for number, name in enumerate(names)}
    scores: list[tuple[int, float]] = []
    regions: Counter[str] = Counter()
    unmarked: list[str] = []
    title, visible = f"{category}: evaluating", accelerator.is_main_process
    spec = ImageSpec.of(recipe, model.image_size)

    def load(index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        image = load_image(tests[index].path, spec)
        return image, load_mask(tests[index], spec)

    batches = [mine[some.start : some.stop] for some in batches_of(len(mine), BATCH_SIZE)]
    with (
        Progress(title, len(mine), visible=visible) as progress,
        worker_threads() as pool,
    ):
        for indices, loaded in zip(batches, batches_ahead(pool, load, batches), strict=True):
            images, masks = zip(*(future.result() for future in loaded), strict=True)
            predictions = predict_images(model, np.stack(images), accelerator)
            scores += zip(indices, predictions.scores.tolist(), strict=True)
            for index, anomaly_map, mask in (
                zip(indices, predictions.maps, masks, strict=True) if with_masks else ()
            ):
                test = tests[index]
                path = pixel_file(folder, defects[test.defect], accelerator.process_index)
                regions[test.defect] += append_pixels(path, anomaly_map, mask)
                if test.label and not mask.any():
                    unmarked.append(test.name)
            progress.advance(len(indices))
    if (unmarked := sorted(gather_object(unmarked))) and visible:
        warn_of_unmarked(category, unmarked, model.image_size)
    by_index = dict(gather_object(scores))
    counted = sum((Counter(part) for part in gather_object([dict(regions)])), Counter[str]())
    ranks = range(accelerator.num_processes)
    files = {
        name: [pixel_file(folder, number, rank) for rank in ranks]
        for name, number in defects.items()
    }
    return Scores(
        images=[ScoredImage(test, by_index[index]) for index, test in enumerate(tests)],
        regions=dict(counted),
        pixels={name: [path for path in paths if path.exists()] for name, paths in files.items()},
    )


def explained_scoring(model: RealNet) -> AbstractContextManager[None]:
    """Says what to change when there is not enough memory to score images with a model."""
    return explained_out_of_memory(
        f"out of memory, scoring {BATCH_SIZE} images of {model.image_size} pixels at a time.",
        "Use --precision bf16 or --device cpu, or end what else takes memory.",
    )


def warn_of_unmarked(category: str, names: Sequence[str], size: int) -> None:
    """Says which anomalous images have no anomalous pixel; all of theirs count as normal."""
    print(
        f"warning: {category}: the masks of {len(names)} anomalous images mark nothing at "
        f"{size} x {size} pixels, the first that of {names[0]}; their pixels count as normal.",
        file=sys.stderr,
    )


def pixel_file(folder: Path, defect: int, rank: int) -> Path:
    """Where a process keeps the scores of the pixels of the images with a defect, by its number."""
    return folder / f"{defect}-{rank}.pixels"
