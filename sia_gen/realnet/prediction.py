"""Scores images with a fitted RealNet, batch by batch, on this process's device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from sia_gen.errors import ModelError
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.compilation import is_compiled

BATCH_SIZE = 16


@dataclass(frozen=True)
class Predictions:
    """What RealNet says of N images.

    Attributes:
        scores: One per image, (N,), float32 in [0, 1].
        maps: Probability that a pixel is anomalous, (N, H, W), float32.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


@torch.no_grad()
def predict_images(
    model: RealNet,
    images: NDArray[np.uint8] | NDArray[np.float32],
    accelerator: Accelerator,
    batch_size: int = BATCH_SIZE,
) -> Predictions:
    """Scores images.

    Args:
        model: In any mode; it is scored in eval mode and left as it was.
        images: (N, C, H, W), C = 1 or 3; 0 to 255 if uint8, else in [0, 1].
        accelerator: Device and precision.
        batch_size: Images at a time; it does not change the result beyond rounding.

    Raises:
        ModelError: If a score is NaN.
    """
    was_training = model.training
    model.eval()
    scores, maps = [], []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size]).to(accelerator.device)
        number, scale = len(batch), 255 if batch.dtype == torch.uint8 else 1
        if is_compiled(model) and number < batch_size:
            # It takes batches of one size.
            batch = torch.cat([batch, batch[:1].expand(batch_size - number, -1, -1, -1)])
        with accelerator.autocast():
            output = model(batch.float() / scale)
        scores.append(output.score[:number].float().cpu().numpy())
        maps.append(output.anomaly_map[:number, 0].float().cpu().numpy())
    model.train(was_training)
    require_numbers(np.concatenate(scores))
    return Predictions(np.concatenate(scores), np.concatenate(maps))


def require_numbers(scores: NDArray[np.float32]) -> None:
    """Raises `ModelError` if scores are NaN: no threshold is below it, all would be normal."""
    if np.isnan(scores).any():
        raise ModelError(
            problem="the scores of the model are NaN: its weights are too large to compute with.",
            fix="Use --precision fp32; if that does not help, fit it again with a lower "
            "'realnet.learning_rate' and --no-resume.",
        )
