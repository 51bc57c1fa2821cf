"""Scores images with a fitted RealNet, batch by batch, on this process's device."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from sia_gen.errors import ModelError
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.test_set import TestImage, load_mask
from sia_gen.io.files import batches_ahead, worker_threads
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.device import is_compiled
from sia_gen.train.batches import batches_of

BATCH_SIZE = 16


@dataclass(frozen=True)
class Predictions:
    """Scores (N,) and anomaly maps (N, H, W) of N images, both float32 in [0, 1]."""

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


@torch.no_grad()
def predict_images(
    model: RealNet,
    images: NDArray[np.uint8] | NDArray[np.float32],
    accelerator: Accelerator,
    batch_size: int = BATCH_SIZE,
) -> Predictions:
    """Scores images (N, C, H, W), C = 1 or 3; 0 to 255 if uint8, else in [0, 1].

    The model scores in eval mode and keeps its mode. The batch size does not change the result
    beyond rounding.

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
            # A compiled network takes batches of one size only.
            batch = torch.cat([batch, batch[:1].expand(batch_size - number, -1, -1, -1)])
        with accelerator.autocast():
            output = model(batch.float() / scale)
        scores.append(output.score[:number].float().cpu().numpy())
        maps.append(output.anomaly_map[:number, 0].float().cpu().numpy())
    model.train(was_training)
    require_numbers(np.concatenate(scores))
    return Predictions(np.concatenate(scores), np.concatenate(maps))


def predict_tests(
    model: RealNet, tests: Sequence[TestImage], spec: ImageSpec, accelerator: Accelerator
) -> Iterator[tuple[list[TestImage], Predictions, list[NDArray[np.bool_]]]]:
    """Yields test images in batches with their predictions and masks, each (H, W)."""

    def load(test: TestImage) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return load_image(test.path, spec), load_mask(test, spec)

    batches = [[tests[index] for index in some] for some in batches_of(len(tests), BATCH_SIZE)]
    with worker_threads() as pool:
        for batch, loaded in zip(batches, batches_ahead(pool, load, batches), strict=True):
            images, masks = zip(*(future.result() for future in loaded), strict=True)
            yield batch, predict_images(model, np.stack(images), accelerator), list(masks)


def explained_scoring(model: RealNet) -> AbstractContextManager[None]:
    """Says which option to change if scoring images with a model runs out of memory."""
    return explained_out_of_memory(
        f"out of memory, scoring {BATCH_SIZE} images of {model.image_size} pixels at a time.",
        "Use --precision bf16 or --device cpu, or close other programs that use memory.",
    )


def require_numbers(scores: NDArray[np.float32]) -> None:
    """Raises `ModelError` if scores are NaN, because no threshold calls NaN anomalous."""
    if np.isnan(scores).any():
        raise ModelError(
            problem="the scores of the model are NaN: its weights are too large to compute with.",
            fix="Use --precision fp32; if that does not help, fit it again with a lower "
            "'realnet.learning_rate' and --no-resume.",
        )
