"""Selects the best weights and the threshold, without a test image.

They come from normal images kept back, each once as it is and once with a synthetic anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.evaluation.metrics import auroc, average_precision, f1_max
from sia_gen.realnet.anomalies import LocalAnomalies
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.prediction import predict_images

SELECTED_ON = "normal images kept back, with synthetic anomalies"
VALIDATION_SEED = 1


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


def keep_best(
    best: Best, step: int, model: RealNet, validation: LocalAnomalies, accelerator: Accelerator
) -> None:
    """Scores the validation images and keeps the weights if they are the best so far."""
    metrics = validate(model, validation, accelerator)
    score = metrics["image_auroc"] + metrics["pixel_average_precision"]
    if score >= best.score:
        best.score, best.step, best.metrics = score, step, metrics
        best.weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}


def validate(
    model: RealNet, validation: LocalAnomalies, accelerator: Accelerator
) -> dict[str, float]:
    """Metrics on images kept back, each once as it is and once with a synthetic anomaly."""
    indices = range(len(validation.normal))
    samples = [
        validation.sample(index, np.random.default_rng((VALIDATION_SEED, index)), number=index)
        for index in indices
    ]
    anomalous, normal, masks = (np.stack(part) for part in zip(*samples, strict=True))
    predictions = predict_images(model, np.concatenate([normal, anomalous]), accelerator)
    labels = np.repeat([0, 1], len(indices))
    f1, threshold = f1_max(labels, predictions.scores)
    return {
        "image_auroc": auroc(labels, predictions.scores),
        "image_f1_max": f1,
        "pixel_average_precision": average_precision(masks[:, 0], predictions.maps[len(indices) :]),
        "threshold": threshold,
    }
