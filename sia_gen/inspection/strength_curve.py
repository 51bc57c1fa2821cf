"""The strengths at which samples are abnormal but still show their object.

The effect of a strength depends on the model, so the distance from the normal images is measured
at growing strength. Samples are abnormal once they are farther from the normal images than these
are from each other. They show the object as long as they are nearer to it than to noise. Twins are
useful once their masks are rarely empty, and up to a multiple of that strength.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from sia_gen.config.recipe import Recipe
from sia_gen.config.strength import WHITE, Strength
from sia_gen.corpus.sampling import generators, sampling_options
from sia_gen.corpus.schema import StrictModel
from sia_gen.errors import ModelError
from sia_gen.images.loading import to_picture, to_pixels
from sia_gen.inspection.distance import NormalBank, NormalImages, enlarge
from sia_gen.sdas.pipeline import SDASPipeline

# Strengths of white noise. Correlated noise is the same in all steps: it has ten times the effect.
STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2, 3, 4.5, 7, 10, 15)
CORRELATED_SCALE = 0.1
# Twins take twice as long, and a wider range of strengths: every other one is enough.
TWINS_STEP = 2
SAMPLES = 16
# Share of the normal images that count as normal.
NORMAL_QUANTILE = 0.95
# Share of the masks of twins that may be empty, and how many times the strength that this takes is
# the highest. Beyond it spots and scratches become black and white.
EMPTY_MASKS, TWINS_RANGE = 0.1, 2.5

Numbers = Annotated[list[float], Field(min_length=1)]


class StrengthSamples(NamedTuple):
    """Samples of one strength, and of twins what else is known about them.

    Attributes:
        images: The samples.
        normal: Their normal twins.
        regions: Where each sample was perturbed, (N, H, W); None if everywhere.
        masks: Whether each has a mask that is not empty.
    """

    images: list[Image.Image]
    normal: list[Image.Image] | None = None
    regions: NDArray[np.bool_] | None = None
    masks: list[bool] | None = None


# Makes the samples of some strength.
Sampler = Callable[[float], StrengthSamples]


class StrengthCurve(StrictModel):
    """Distances from the normal images at growing strength.

    Attributes:
        strengths: Strengths, ascending from 0, (S,).
        samples: Distances of the samples at each strength, (S, N).
        normal: Distances of other normal images, (M,).
        noise: Distances of images of noise that were enlarged like the samples, (K,).
        masked: Share of the twins whose masks are not empty, (S,); None for single samples.
    """

    strengths: Numbers
    samples: list[Numbers]
    normal: Numbers
    noise: Numbers
    masked: Numbers | None = None

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if len(self.samples) != len(self.strengths) or len({len(row) for row in self.samples}) > 1:
            msg = "the samples are not those of the strengths"
            raise ValueError(msg)
        if self.masked is not None and len(self.masked) != len(self.strengths):
            msg = "the masks are not those of the strengths"
            raise ValueError(msg)
        return self

    @property
    def medians(self) -> NDArray[np.float64]:
        """Median distance of the samples, (S,), which never falls: more is never less abnormal."""
        return np.maximum.accumulate(np.median(self.samples, axis=1))

    @property
    def abnormal_from(self) -> float:
        """The distance above which an image is abnormal."""
        normal = (self.normal, self.samples[0])
        return float(max(np.quantile(distances, NORMAL_QUANTILE) for distances in normal))

    @property
    def object_until(self) -> float:
        """The distance above which an image is nearer to noise than to the object."""
        return float((np.median(self.normal) + np.median(self.noise)) / 2)

    @property
    def masked_from(self) -> float | None:
        """The strength from which few masks of twins are empty; None if many always are."""
        return crossing(self.strengths, np.maximum.accumulate(self.masked or [0]), 1 - EMPTY_MASKS)


def useful_range(curve: StrengthCurve, what: str) -> Strength:
    """Returns the strengths at which samples are abnormal and show the object, to four decimals.

    Raises:
        ModelError: If there are none; `what` names the model.
    """
    high = crossing(curve.strengths, curve.medians, curve.object_until)
    high = curve.strengths[-1] if high is None else high
    if curve.masked is None:
        low = crossing(curve.strengths, curve.medians, curve.abnormal_from)
    else:
        low = curve.masked_from
        # Edits are seen without noise.
        high = TWINS_RANGE * low if low else high
    if low is None or not round(low, 4) < round(high, 4):
        reason = "no strength makes them abnormal" if low is None else "all of them look like noise"
        raise ModelError(
            problem=f"there is no useful strength for the samples of {what}: {reason}.",
            fix="Train the model longer: samples of strength 0 must look like good parts first. "
            "Or leave this perturbation out.",
        )
    return Strength(round(low, 4), round(high, 4))


def crossing(strengths: list[float], values: NDArray[np.float64], level: float) -> float | None:
    """Returns where a curve that never falls first exceeds a level, by linear interpolation."""
    above = np.flatnonzero(values > level)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return strengths[0]
    (x0, x1), (y0, y1) = strengths[place - 1 : place + 1], values[place - 1 : place + 1]
    return float(x0 + (x1 - x0) * (level - y0) / (y1 - y0))


def sampler_of(pipeline: SDASPipeline, recipe: Recipe, category: str, perturbation: str) -> Sampler:
    """Returns what makes single samples of a category from the same noise at every strength."""

    def sample(strength: float) -> StrengthSamples:
        images = pipeline(
            num_images=SAMPLES,
            strength=strength,
            perturbation=perturbation,
            generator=generators(recipe.seed + i for i in range(SAMPLES)),
            **sampling_options(pipeline, recipe, category),
        ).images
        return StrengthSamples(images)

    return sample


def ladder(*, twins: bool) -> tuple[float, ...]:
    """Returns the strengths of white noise at which samples or twins are measured at most."""
    return STRENGTHS[::TWINS_STEP] if twins else STRENGTHS


def measure_curve(
    sample: Sampler,
    bank: NormalBank,
    recipe: Recipe,
    perturbation: str,
    normal: NormalImages,
    *,
    twins: bool,
) -> tuple[StrengthCurve, list[Image.Image]]:
    """Measures the distances of samples at growing strength, until they look like noise.

    Returns:
        The curve, and the first sample at each strength.
    """
    size = normal.reference.shape[-1]
    scale = 1 if perturbation == WHITE else CORRELATED_SCALE
    steps = ladder(twins=twins)
    # Nothing is perturbed at strength 0; the regions and the twins are the same at any other.
    lowest = sample(scale * steps[1])
    regions = lowest.regions
    apart = normal.apart if lowest.normal is None else enlarge(lowest.normal, size)
    noisy = enlarge(_pictures_of_noise(lowest, recipe.seed), size)
    levels = {
        "normal": bank.distances(apart, regions).tolist(),
        "noise": bank.distances(noisy, regions).tolist(),
    }
    strengths, samples, masked, shown = [], list[list[float]](), [], []
    for strength in steps:
        made = lowest if strength == steps[1] else sample(scale * strength)
        strengths.append(scale * strength)
        samples.append(bank.distances(enlarge(made.images, size), regions).tolist())
        shown.append(made.images[0])
        if made.masks is not None:
            masked.append(float(np.mean(made.masks)))
        curve = StrengthCurve(strengths=strengths, samples=samples, masked=masked or None, **levels)
        if _is_enough(curve):
            break
    return curve, shown


def _is_enough(curve: StrengthCurve) -> bool:
    """Tells whether no higher strength can be useful."""
    if not curve.masked:
        return bool(curve.medians[-1] > curve.object_until)
    low = curve.masked_from
    return low is not None and curve.strengths[-1] >= TWINS_RANGE * low > 0


def _pictures_of_noise(made: StrengthSamples, seed: int) -> list[Image.Image]:
    """Returns pictures of noise; noise in the region alone of twins that are perturbed there."""
    images = np.stack([to_pixels(image) for image in made.normal or made.images])
    noise = np.random.default_rng(seed).normal(127.5, 127.5, images.shape)
    noise = noise.clip(0, 255).astype(np.uint8)
    if made.regions is not None:
        noise = np.where(made.regions[:, None], noise, images)
    return [to_picture(image) for image in noise]
