"""Twins at growing strength, for the calibration of their strengths."""

from functools import partial

from sia_gen.config.recipe import DatasetCategory
from sia_gen.corpus.plan import plan_corpus
from sia_gen.inspection.strength_curve import SAMPLES, Sampler, StrengthSamples
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.twins.maker import TwinMaker


def twin_sampler(
    maker: TwinMaker, pipeline: SDASPipeline, place: DatasetCategory, perturbation: str
) -> Sampler:
    """Returns what makes the first twins of a category with a strength of its choice."""
    return partial(_sample_twins, maker, pipeline, place, perturbation)


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
    return StrengthSamples(images, normal, batch.regions, masks)
