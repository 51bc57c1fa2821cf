"""Selects the best weights and the threshold, by default without a test image.

They come from normal photographs kept back, and from anomalies that training never sees. Only
if the recipe says so, to compare with published tables, the test images choose; whatever comes of
that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.anomalies.paste import LocalAnomalies, to_unit_range
from sia_gen.config.recipe import Recipe
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.images.test_set import TestImage, load_mask
from sia_gen.metrics import auroc, average_precision, f1_max
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import BATCH_SIZE, predict_images
from sia_gen.train.batches import batches_of

SELECTED_ON = {
    "validation": "normal images kept back, with synthetic anomalies",
    "test": "THE TEST IMAGES, to compare with published tables: not a fair measure",
}
VALIDATION_SEED = 1

# Metrics of a model, `image_auroc` and `threshold` among them.
Validate = Callable[[RealNet, Accelerator], dict[str, float]]


@dataclass
class Best:
    """The best weights so far, by the validation score; saved in every checkpoint."""

    score: float = -np.inf
    step: int = 0
    weights: dict[str, torch.Tensor] | None = None
    metrics: dict[str, float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what a checkpoint kept."""
        vars(self).update(state)


def keep_best(best: Best, step: int, model: RealNet, metrics: dict[str, float]) -> None:
    """Keeps the weights if their metrics are the best so far."""
    score = metrics["image_auroc"] + metrics.get("pixel_average_precision", 0.0)
    if score >= best.score:
        best.score, best.step, best.metrics = score, step, metrics
        best.weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}


def validate(
    validation: LocalAnomalies, model: RealNet, accelerator: Accelerator
) -> dict[str, float]:
    """Metrics on photographs kept back, and on as many synthetic anomalies.

    An anomaly is a piece pasted into such a photograph, or a twin of a part of the corpus that
    training never reads.
    """
    labels, scores, masks, maps = [], [], [], []
    for indices in batches_of(len(validation.normal), BATCH_SIZE // 2):
        samples = [
            validation.sample(index, np.random.default_rng((VALIDATION_SEED, index)), number=index)
            for index in indices
        ]
        normal = np.stack([to_unit_range(validation.normal[index]) for index in indices])
        anomalous, _, mask = (np.stack(part) for part in zip(*samples, strict=True))
        predictions = predict_images(model, np.concatenate([normal, anomalous]), accelerator)
        labels += np.repeat([0, 1], len(indices)).tolist()
        scores += predictions.scores.tolist()
        masks.append(mask[:, 0] > 0)
        maps.append(predictions.maps[len(indices) :])
    pixels = average_precision(np.concatenate(masks), np.concatenate(maps))
    return image_metrics(labels, scores) | {"pixel_average_precision": pixels}


def validate_on_test(
    recipe: Recipe, tests: Sequence[TestImage], model: RealNet, accelerator: Accelerator
) -> dict[str, float]:
    """Metrics on the test images themselves."""
    spec = ImageSpec.of(recipe, model.image_size)
    scores, masks, maps = [], [], []
    for indices in batches_of(len(tests), BATCH_SIZE):
        some = [tests[index] for index in indices]
        images = load_images([test.path for test in some], spec)
        predictions = predict_images(model, images, accelerator)
        scores += predictions.scores.tolist()
        if any(test.mask for test in tests):
            masks += [load_mask(test, spec) for test in some]
            maps.append(predictions.maps)
    metrics = image_metrics([test.label for test in tests], scores)
    if any(mask.any() for mask in masks):
        metrics["pixel_average_precision"] = average_precision(masks, np.concatenate(maps))
    return metrics


def image_metrics(labels: Any, scores: Any) -> dict[str, float]:
    """The metrics of whole images, and the threshold of the best F1."""
    f1, threshold = f1_max(labels, scores)
    return {"image_auroc": auroc(labels, scores), "image_f1_max": f1, "threshold": threshold}
