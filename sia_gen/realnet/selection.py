"""Selects the best weights and the threshold, by default without a test image.

They come from normal photographs held out, and from anomalies that training never sees. The test
images select them only if the recipe says so, to compare with published tables; every report of
such a model says it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.anomalies.paste import LocalAnomalies, to_unit_range
from sia_gen.config.recipe import Recipe
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec
from sia_gen.images.squares import Area
from sia_gen.metrics import auroc, average_precision, f1_max
from sia_gen.realnet.inference import BATCH_SIZE, predict_images, predict_tests
from sia_gen.realnet.model import RealNet
from sia_gen.train.batches import batches_of

SELECTED_ON = {
    "validation": "normal images held out, with synthetic anomalies",
    "test": "THE TEST IMAGES, to compare with published tables: not a fair measure",
}
VALIDATION_SEED = 1


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
        score = metrics["image_auroc"] + metrics.get("pixel_average_precision", 0.0)
        if score >= self.score:
            self.score, self.step, self.metrics = score, step, metrics
            self.weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}


def validate(
    validation: LocalAnomalies, model: RealNet, accelerator: Accelerator
) -> dict[str, float]:
    """Returns metrics on photographs held out, and on as many synthetic anomalies.

    An anomaly is a piece pasted into such a photograph, or a twin from a part of the corpus that
    training never reads. `image_auroc` and `threshold` are among the metrics.
    """
    labels, scores, masks, maps = [], [], [], []
    side = validation.normal[0].shape[-1]
    every = validation.areas or [Area.whole(side)] * len(validation.normal)
    for indices in batches_of(len(validation.normal), BATCH_SIZE // 2):
        samples = [
            validation.sample(index, np.random.default_rng((VALIDATION_SEED, index)), number=index)
            for index in indices
        ]
        normal = np.stack([to_unit_range(validation.normal[index]) for index in indices])
        anomalous, _, mask = (np.stack(part) for part in zip(*samples, strict=True))
        areas = [every[index] for index in indices]
        predictions = predict_images(
            model,
            np.concatenate([normal, anomalous]),
            accelerator,
            areas=None if validation.areas is None else areas + areas,
        )
        labels += np.repeat([0, 1], len(indices)).tolist()
        scores += predictions.scores.tolist()
        of_anomalous = predictions.maps[len(indices) :]
        masks += [area.cut(one[0] > 0).ravel() for area, one in zip(areas, mask, strict=True)]
        maps += [area.cut(one).ravel() for area, one in zip(areas, of_anomalous, strict=True)]
    pixels = average_precision(np.concatenate(masks), np.concatenate(maps))
    return _image_metrics(labels, scores) | {"pixel_average_precision": pixels}


def validate_on_test(
    recipe: Recipe, tests: Sequence[TestImage], model: RealNet, accelerator: Accelerator
) -> dict[str, float]:
    """Returns the same metrics on the test images; those of pixels only if masks mark any."""
    have_masks = any(test.mask for test in tests)
    spec = ImageSpec.of(recipe, model.image_size)
    scores, masks, maps = [], [], []
    for _, _, mask, score, anomaly_map in predict_tests(model, tests, spec, accelerator):
        scores.append(score)
        if have_masks:
            masks.append(mask.ravel())
            maps.append(anomaly_map.ravel())
    metrics = _image_metrics([test.label for test in tests], scores)
    if any(mask.any() for mask in masks):
        both = np.concatenate(masks), np.concatenate(maps)
        metrics["pixel_average_precision"] = average_precision(*both)
    return metrics


def _image_metrics(labels: list[int], scores: list[float]) -> dict[str, float]:
    f1, threshold = f1_max(labels, scores)
    return {"image_auroc": auroc(labels, scores), "image_f1_max": f1, "threshold": threshold}
