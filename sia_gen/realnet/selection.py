"""Selects the best weights and the threshold, by default without a test image.

They come from normal photographs held out, and from anomalies that training never sees. The test
images select them only if the recipe says so, to compare with published tables; every report of
such a model says it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.config.recipe import Recipe
from sia_gen.images.by_number import Images, Tiles, numbers_of
from sia_gen.images.counted import Scope, load_counted
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec, Pixels
from sia_gen.images.squares import Area
from sia_gen.io.arrays import joined_rows
from sia_gen.metrics import auroc, average_precision, f1_max
from sia_gen.realnet.inference import (
    BATCH_SIZE,
    predict_images,
)
from sia_gen.realnet.many import predict_tests
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.normal import Look
from sia_gen.realnet.photographs import averaged_rows, predict_photograph
from sia_gen.realnet.preparation import FitData
from sia_gen.realnet.tiling import resized_map
from sia_gen.train.batches import batches_of

SELECTED_ON = {
    "validation": "normal images held out, with synthetic anomalies",
    "test": "THE TEST IMAGES, to compare with published tables: not a fair measure",
}
VALIDATION_SEED = 1
# Share of normal images whose scores are the tail, and the least number of them.
TAIL, FEWEST_BEYOND = 0.15, 5
SMALLEST_ODDS = 1e-12
# Photographs that tell what is normal where.
MOST_PLACED = 128
# Metrics, of every kind of anomalies, whose sum selects the weights.
SCORED = ("image_auroc", "pixel_average_precision")


@dataclass
class Best:
    """The best weights so far, by the validation score; saved in every checkpoint."""

    score: float = -np.inf
    step: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what a checkpoint kept."""
        vars(self).update(state)

    def update(self, step: int, model: RealNet, metrics: dict[str, float]) -> None:
        """Keeps the weights of a model if no earlier ones had a higher score."""
        score = sum(value for name, value in metrics.items() if name.endswith(SCORED))
        if score >= self.score:
            self.score, self.step, self.metrics = score, step, metrics
            self.weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}


def validate(data: FitData, model: RealNet, accelerator: Accelerator) -> dict[str, float]:
    """Returns metrics on photographs held out, and on as many synthetic anomalies.

    An anomaly is a piece pasted into such a photograph, or a twin from a part of the corpus that
    training never reads. `image_auroc` and `threshold` are among the metrics. Those whose names
    begin with `unseen_` are of anomalies of a kind that training never sees.
    """
    normal = score_photographs(data.validation, model, accelerator)
    seen = _metrics_on(data.validation, normal, model, accelerator)
    unseen = _metrics_on(data.unseen, normal, model, accelerator)
    return seen | {f"unseen_{name}": unseen[name] for name in SCORED}


class Anomalous(NamedTuple):
    """The score of an image with an anomaly, and some of its pixels: masks and maps, (P,)."""

    score: float
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]


def _metrics_on(
    anomalies: LocalAnomalies,
    normal: NDArray[np.float32],
    model: RealNet,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Returns the metrics of one anomaly in each photograph, beside the scores of normal ones."""
    tiled = isinstance(anomalies.normal, Tiles)
    predict = _predict_in_photographs if tiled else _predict_in_images
    found = list(predict(anomalies, model, accelerator))
    joined = np.concatenate([normal, [one.score for one in found]])
    labels = np.arange(len(joined)) >= len(normal)
    masks, maps = (np.concatenate(part) for part in list(zip(*found, strict=True))[1:])
    return _image_metrics(labels, joined) | {
        "pixel_average_precision": average_precision(masks, maps)
    }


def _predict_in_images(
    anomalies: LocalAnomalies, model: RealNet, accelerator: Accelerator
) -> Iterator[Anomalous]:
    """Yields what a model says of an anomaly in each image."""
    for indices in batches_of(len(anomalies.normal), BATCH_SIZE):
        samples = [
            anomalies.sample(index, np.random.default_rng((VALIDATION_SEED, index)), number=index)
            for index in indices
        ]
        images, _, masks = (np.stack(part) for part in zip(*samples, strict=True))
        scopes = _scopes_of(anomalies, indices)
        found = predict_images(model, images, accelerator, scopes=scopes)
        inside = scopes or [Scope(Area.whole(images.shape[-1]))] * len(images)
        for score, (area, _), mask, one in zip(
            found.scores, inside, masks, found.maps, strict=True
        ):
            yield Anomalous(score, area.cut(mask[0] > 0).ravel(), area.cut(one).ravel())


def _predict_in_photographs(
    anomalies: LocalAnomalies, model: RealNet, accelerator: Accelerator
) -> Iterator[Anomalous]:
    """Yields what a model says of an anomaly in one tile of each photograph.

    The score is that of the whole photograph, the pixels those of the tile.
    """
    tiles: Any = anomalies.normal
    for number, photograph in _each(tiles.photographs):
        rng = np.random.default_rng((VALIDATION_SEED, number))
        index = int(rng.choice(np.flatnonzero(numbers_of(tiles) == number)))
        image, _, mask = anomalies.sample(index, rng, number=number)
        _, top, left = tiles.places[index].tolist()
        changed = tiles.pasted(photograph, np.rint(image * 255).astype(np.uint8), top, left)
        score, anomaly_map = predict_photograph(
            model, changed, tiles.tile, accelerator, counted=_counted(tiles, number)
        )
        side = tiles.tile.size
        here = anomaly_map[top : top + side, left : left + side]
        yield Anomalous(score, mask[0].ravel() > 0, resized_map(here, mask.shape[1:]).ravel())


def _counted(tiles: Tiles, number: int) -> NDArray[np.bool_] | None:
    return None if tiles.counted is None else tiles.counted[number][0] > 0


def _each(images: Images) -> Iterator[tuple[int, Pixels]]:
    return ((number, images[number]) for number in range(len(images)))


def _scopes_of(data: LocalAnomalies, indices: Sequence[int]) -> list[Scope] | None:
    """Returns what counts in some normal images; None if everything does."""
    if data.areas is None:
        return None
    if data.counted is None:
        return [Scope(data.areas[index]) for index in indices]
    planes = [data.areas[index].cut(data.counted[index][0] > 0) for index in indices]
    return [Scope(data.areas[index], plane) for index, plane in zip(indices, planes, strict=True)]


def score_photographs(
    data: LocalAnomalies, model: RealNet, accelerator: Accelerator, *, left_out: bool = False
) -> NDArray[np.float32]:
    """Returns the scores (N,) of normal images; a memory that holds them may leave each out."""
    looks = look_at_photographs(data, model, accelerator, left_out=left_out)
    return np.array([look.score for look in looks], np.float32)


def look_at_photographs(
    data: LocalAnomalies, model: RealNet, accelerator: Accelerator, *, left_out: bool = False
) -> list[Look]:
    """Returns what is measured of normal images; a memory that holds them may leave each out.

    Of images that are tiles, whole photographs are measured.
    """
    if isinstance(data.normal, Tiles):
        return _look_at_cut(data.normal, model, accelerator, left_out=left_out)
    looks = list[Look]()
    for indices in batches_of(len(data.normal), BATCH_SIZE):
        pixels = np.stack([data.normal[index] for index in indices])
        numbers = np.array(indices) if left_out else None
        scopes = _scopes_of(data, indices)
        found = predict_images(model, pixels, accelerator, numbers=numbers, scopes=scopes)
        inside = scopes or [Scope(Area.whole(pixels.shape[-1]))] * len(pixels)
        looks += [
            Look.of(area.cut(image), score, area.cut(anomaly_map))
            for (area, _), image, score, anomaly_map in zip(inside, pixels, *found, strict=True)
        ]
    return looks


def _look_at_cut(
    tiles: Tiles, model: RealNet, accelerator: Accelerator, *, left_out: bool
) -> list[Look]:
    """Returns what is measured of the photographs that tiles were cut from."""
    looks = list[Look]()
    for number, photograph in _each(tiles.photographs):
        score, anomaly_map = predict_photograph(
            model,
            photograph,
            tiles.tile,
            accelerator,
            number=number if left_out else None,
            counted=_counted(tiles, number),
        )
        looks.append(Look.of(photograph, score, anomaly_map))
    return looks


def measure_places(data: LocalAnomalies, model: RealNet, accelerator: Accelerator) -> None:
    """Tells a model what is normal at each place, by photographs that its memory leaves out."""
    tiles = data.normal
    if model.places is None or not isinstance(tiles, Tiles):
        return
    count = len(tiles.photographs)
    numbers = np.unique(np.linspace(0, count - 1, MOST_PLACED).round().astype(int)).tolist()

    def averaged(number: int) -> NDArray[np.float32]:
        photograph = tiles.photographs[number]
        rows = averaged_rows(model, photograph, tiles.tile, accelerator, number)
        return joined_rows(rows, photograph.shape[-2:])

    counted = (_counted(tiles, number) for number in numbers)
    model.places.measure(map(averaged, numbers), counted)


def look_at_normal(data: FitData, model: RealNet, accelerator: Accelerator) -> list[Look]:
    """Returns what is measured of all normal photographs that a model can score as if unseen.

    Networks have learned the others. A memory only holds them, so it leaves each out.
    """
    looks = look_at_photographs(data.validation, model, accelerator)
    if model.memory is None:
        return looks
    return looks + look_at_photographs(data.fit, model, accelerator, left_out=True)


@dataclass(frozen=True)
class FalseAlarms:
    """A threshold for a rate of false alarms, and what is known of the true rate."""

    threshold: float
    aim: float
    low: float  # limits of the 95 % interval (Clopper and Pearson) of the share of normal images
    high: float  # that exceed the threshold
    images: int  # number of normal images that it rests on


def threshold_for(scores: ArrayLike, aim: float) -> FalseAlarms:
    """Finds the threshold that a share of normal images exceeds, from scores of such images alone.

    The highest scores are taken for an exponential tail of the log odds, so an aim below one in as
    many images as there are has a threshold too.

    Args:
        scores: Of normal images that the model has not learned, (N,) in [0, 1].
        aim: Rate of false alarms, in (0, 1).
    """
    probabilities = np.clip(np.asarray(scores, np.float64), SMALLEST_ODDS, 1 - SMALLEST_ODDS)
    odds = np.sort(np.log(probabilities) - np.log1p(-probabilities))[::-1]
    beyond = min(max(FEWEST_BEYOND, round(TAIL * len(odds))), len(odds) - 1)
    if beyond < 1 or aim >= beyond / len(odds):
        threshold = float(np.quantile(odds, 1 - aim))
    else:
        excess = float((odds[:beyond] - odds[beyond]).mean())
        threshold = float(odds[beyond]) + excess * math.log(beyond / len(odds) / aim)
    exceeding = binomtest(int((odds > threshold).sum()), len(odds)).proportion_ci(method="exact")
    threshold = 1 / (1 + math.exp(-threshold))
    return FalseAlarms(threshold, aim, float(exceeding.low), float(exceeding.high), len(odds))


def validate_on_test(
    recipe: Recipe, tests: Sequence[TestImage], model: RealNet, accelerator: Accelerator
) -> dict[str, float]:
    """Returns the same metrics on the test images; those of pixels only if masks mark any.

    The pixels of anomalous images without a mask are left out.
    """
    have_masks = any(test.mask for test in tests)
    spec = ImageSpec.of(recipe, model.image_size)
    scores, masks, maps = [], [], []
    for test, mask, score, anomaly_map in predict_tests(model, tests, spec, accelerator):
        scores.append(score)
        if have_masks and (test.mask or not test.label):
            counted = load_counted(test.path, spec)
            here = np.ones_like(mask) if counted is None else counted
            masks.append(mask[here])
            maps.append(anomaly_map[here])
    metrics = _image_metrics([test.label for test in tests], scores)
    if any(mask.any() for mask in masks):
        both = np.concatenate(masks), np.concatenate(maps)
        metrics["pixel_average_precision"] = average_precision(*both)
    return metrics


def _image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    f1, threshold = f1_max(labels, scores)
    return {"image_auroc": auroc(labels, scores), "image_f1_max": f1, "threshold": threshold}
