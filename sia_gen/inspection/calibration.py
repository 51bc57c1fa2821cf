"""The strengths at which samples are abnormal, and still of their object.

Strength by itself says little: how far a sample goes depends on the model. So the distance from
the normal images is measured at growing strength. Samples are abnormal once they are farther than
normal images are from each other, and of their object while they are nearer to it than to noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.config.strength import Strength
from sia_gen.corpus.sampling import generators, sampling_options
from sia_gen.errors import ModelError
from sia_gen.images.loading import to_picture
from sia_gen.inspection.distance import NormalBank, Pixels
from sia_gen.inspection.normal import enlarge
from sia_gen.sdas.pipeline import SDASPipeline

STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
SAMPLES = 16
# What all but one in twenty normal images stay below.
NORMAL_QUANTILE = 0.95


@dataclass(frozen=True)
class StrengthCurve:
    """Distances from the normal images, at growing strength.

    Attributes:
        strengths: (S,), ascending from 0.
        samples: (S, N), of the samples at each strength.
        normal: (M,), of normal images kept apart.
        noise: (K,), of images of noise, as large as the samples and enlarged like them.
    """

    strengths: NDArray[np.float64]
    samples: NDArray[np.float64]
    normal: NDArray[np.float64]
    noise: NDArray[np.float64]

    @property
    def medians(self) -> NDArray[np.float64]:
        """(S,), of the samples; never falling, since more strength is never less abnormal."""
        return np.maximum.accumulate(np.median(self.samples, axis=1))

    @property
    def abnormal_from(self) -> float:
        """The distance above which an image is abnormal."""
        quantiles = [
            np.quantile(found, NORMAL_QUANTILE) for found in (self.normal, self.samples[0])
        ]
        return float(max(quantiles))

    @property
    def object_until(self) -> float:
        """The distance above which an image is nearer to noise than to the object."""
        return float((np.median(self.normal) + np.median(self.noise)) / 2)

    def to_json(self) -> dict[str, list[float]]:
        """The curve as plain numbers."""
        return {name: values.tolist() for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StrengthCurve:
        """The curve that `to_json` gave, among other fields.

        Raises:
            ValueError: If it is none; also `LookupError` and `TypeError`.
        """
        curve = cls(**{one.name: np.array(content[one.name], float) for one in fields(cls)})
        count, *_ = curve.strengths.shape
        samples = curve.samples.size // max(1, count)
        shapes = [(count,), (count, samples), (curve.normal.size,), (curve.noise.size,)]
        arrays = [curve.strengths, curve.samples, curve.normal, curve.noise]
        if [one.shape for one in arrays] != shapes or not all(one.size for one in arrays):
            msg = "it is no curve of strengths"
            raise ValueError(msg)
        return curve


def useful_range(curve: StrengthCurve, what: str) -> Strength:
    """The strengths between abnormal and no longer the object, rounded to three decimals.

    Raises:
        ModelError: If there are none; `what` names the model.
    """
    low = crossing(curve.strengths, curve.medians, curve.abnormal_from)
    high = crossing(curve.strengths, curve.medians, curve.object_until)
    high = curve.strengths[-1] if high is None else high
    if low is None or not round(low, 3) < round(float(high), 3):
        reason = "no strength makes them abnormal" if low is None else "all of them look like noise"
        raise ModelError(
            problem=f"there is no useful strength for the samples of {what}: {reason}.",
            fix="Train the model longer: samples of strength 0 must look like good parts first.",
        )
    return Strength(round(low, 3), round(float(high), 3))


def crossing(
    strengths: NDArray[np.float64], medians: NDArray[np.float64], level: float
) -> float | None:
    """Where a curve that never falls first exceeds a level, between two points on their line."""
    above = np.flatnonzero(medians > level)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return float(strengths[0])
    (x0, x1), (y0, y1) = strengths[place - 1 : place + 1], medians[place - 1 : place + 1]
    return float(x0 + (x1 - x0) * (level - y0) / (y1 - y0))


def measure_curve(
    pipeline: SDASPipeline, recipe: Recipe, category: str, normal: Pixels, apart: Pixels
) -> tuple[StrengthCurve, list[Image.Image]]:
    """Samples at every strength, from the same noise, and measures how far they go.

    Args:
        pipeline: Of the category, on its device.
        recipe: Says in how many steps, how strongly guided, and what the distances are measured
            with.
        category: What to sample.
        normal: Normal images to compare with, (N, C, H, W), 0 to 255.
        apart: Other normal images, (M, C, H, W).

    Returns:
        The curve, and the first sample at each strength.
    """
    bank = NormalBank.of(recipe, normal, pipeline.device)
    rows, shown = [], []
    for strength in STRENGTHS:
        images = pipeline(
            num_images=SAMPLES,
            strength=strength,
            generator=generators(recipe.seed + i for i in range(SAMPLES)),
            **sampling_options(pipeline, recipe, category),
        ).images
        shown.append(images[0])
        rows.append(bank.distances(enlarge(images, normal.shape[-1])))
    noise = enlarge(pictures_of_noise(pipeline, recipe.seed), normal.shape[-1])
    curve = StrengthCurve(
        np.array(STRENGTHS), np.stack(rows), bank.distances(apart), bank.distances(noise)
    )
    return curve, shown


def pictures_of_noise(pipeline: SDASPipeline, seed: int) -> list[Image.Image]:
    """What a pipeline starts from, as pictures of its size."""
    config = pipeline.unet.config
    shape = (SAMPLES, config.in_channels, config.sample_size, config.sample_size)
    noise = np.random.default_rng(seed).normal(127.5, 127.5, shape)
    return [to_picture(image) for image in noise.clip(0, 255).astype(np.uint8)]
