"""Twins at growing strength, for the calibration of their strengths."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.plan import plan_corpus
from sia_gen.inspection.calibrate import TwinSampler
from sia_gen.inspection.strength_curve import SAMPLES, Sampler, StrengthSamples
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.twins.maker import TwinMaker


def twin_sampler(
    recipe: Recipe, categories: Sequence[str], data: Path | None = None
) -> TwinSampler | None:
    """Returns what makes the first twins of categories with a strength of its choice.

    Their photographs are not edited, because an edit changes them whatever the strength is.
    None if the recipe makes no twins.
    """
    if recipe.synthesis.twins is None:
        return None
    unedited = recipe.override({"synthesis.twins.edit": []})
    places = [DatasetCategory(unedited, category) for category in categories]
    maker = TwinMaker(unedited, places, data)

    def sampler(pipeline: SDASPipeline, place: DatasetCategory, perturbation: str) -> Sampler:
        return partial(_sample_twins, maker, pipeline, place, perturbation)

    return sampler


def _sample_twins(
    maker: TwinMaker,
    pipeline: SDASPipeline,
    place: DatasetCategory,
    perturbation: str,
    strength: float,
) -> StrengthSamples:
    changes = {"images": SAMPLES, "shard_size": SAMPLES, "strength": str(strength)}
    synthesis = maker.recipe.synthesis.model_copy(update=changes | {"perturbation": [perturbation]})
    (shard,) = plan_corpus([place], synthesis)
    batch = maker.make_images(pipeline, shard, shard.indices, model="")
    images, normal = batch.pictures()
    masks = [bool(batch.mask(number).any()) for number in range(SAMPLES)]
    regions = None if batch.regions is None else np.logical_or.reduce(batch.regions)
    return StrengthSamples(images, normal, regions, masks)
