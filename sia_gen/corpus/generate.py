"""Makes a corpus: runs the SDAS pipelines and fills shard after shard, in any number of processes.

CORPUS/
    recipe.yaml  manifest.json  README.md
    data/<dataset>/<category>/train-00000-of-0000K.tar
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image

from sia_gen.corpus.card import write_card
from sia_gen.corpus.identity import SampleIdentity, identify
from sia_gen.corpus.manifest import (
    MANIFEST,
    CorpusHeader,
    check_same_corpus,
    read_manifest,
    read_record,
    record_path,
    write_manifest,
    write_record,
)
from sia_gen.corpus.plan import ShardPlan, plan_corpus, shards_of_process
from sia_gen.corpus.shards import SampleMetadata, write_shard
from sia_gen.corpus.sources import Sources
from sia_gen.errors import ModelError, OutputError
from sia_gen.outputs import claim_output
from sia_gen.progress import Progress
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.strength import Strength
from sia_gen.version import __version__


def synthesize(
    recipe: Recipe,
    categories: Sequence[str],
    models: Path,
    out: Path,
    runtime: Runtime,
    *,
    classifier: Path | None = None,
    resume: bool = True,
) -> None:
    """Makes the shards of some categories, or those that are still missing.

    Args:
        recipe: Says how many samples, of which strength, in how many steps.
        categories: Those to make; categories already in the corpus stay.
        models: Folder with one pipeline per category.
        out: Folder of the corpus.
        runtime: Device and precision.
        classifier: Folder of the classifier, for a recipe with a guidance scale.
        resume: Whether to keep the shards that are there; otherwise all are made again.

    Raises:
        UserError: If a model is missing or the folder holds another corpus; nothing has been
            written then.
    """
    accelerator = runtime.accelerator()
    sources = Sources(recipe, models, classifier)
    hashes = {category: sources.hash(category) for category in categories}
    header = common_header(recipe, sources, categories, accelerator)
    check_same_corpus(out, header)
    plan = plan_for(recipe, [*categories_in(out), *categories])
    wanted = [shard for shard in plan if shard.category in categories]
    if resume:
        check_same_models(out, wanted, hashes)
    if accelerator.is_main_process:
        claim_output(out, recipe, ["synthesis"])
        if not resume:
            for shard in wanted:
                record_path(out, shard).unlink(missing_ok=True)
        write_manifest(out, header, plan)
        write_card(out, recipe, header, plan)
        sources.warn_of_unready(categories)
    accelerator.wait_for_everyone()

    missing = [shard for shard in wanted if read_record(out, shard) is None]
    accelerator.wait_for_everyone()
    mine = shards_of_process(missing, accelerator.process_index, accelerator.num_processes)
    total = sum(shard.samples for shard in mine)
    visible = accelerator.is_main_process
    with Progress("synthesizing", total, visible=visible) as progress:
        for category, shards in groupby(mine, key=lambda shard: shard.category):
            pipeline = sources.load(category)
            prepare_pipeline(pipeline, accelerator)
            for shard in shards:
                samples = generate(pipeline, recipe, shard, hashes[category], progress)
                write_shard(out / shard.path, samples, recipe.synthesis.format)
                write_record(out, shard, hashes[category])
                if accelerator.is_main_process:
                    write_manifest(out, header, plan)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_manifest(out, header, plan)
    accelerator.wait_for_everyone()


def generate(
    pipeline: SDASPipeline, recipe: Recipe, shard: ShardPlan, model: str, progress: Progress
) -> Iterator[tuple[SampleMetadata, Image.Image]]:
    """Makes the samples of a shard, batch by batch."""
    strength = Strength.parse(recipe.synthesis.strength)
    for indices in shard.batches(recipe.synthesis.batch_size):
        identities = [
            identify(recipe.seed, recipe.name, shard.category, index, strength) for index in indices
        ]
        images = pipeline(
            num_images=len(identities),
            strength=[identity.strength for identity in identities],
            # On the CPU, whatever the pipeline runs on: the same noise on every device.
            generator=[torch.Generator().manual_seed(identity.seed) for identity in identities],
            num_inference_steps=recipe.synthesis.steps,
            class_labels=shard.category if pipeline.labels else None,
            guidance_scale=recipe.synthesis.guidance_scale,
        ).images
        for identity, image in zip(identities, images, strict=True):
            yield metadata_of(identity, image, recipe, pipeline, model), image
        progress.advance(len(identities))


def metadata_of(
    identity: SampleIdentity,
    image: Image.Image,
    recipe: Recipe,
    pipeline: SDASPipeline,
    model: str,
) -> SampleMetadata:
    """The `json` member of a sample."""
    return SampleMetadata(
        **asdict(identity),
        steps=recipe.synthesis.steps,
        sampler=type(pipeline.scheduler).__name__,
        guidance_scale=recipe.synthesis.guidance_scale,
        model=model,
        width=image.width,
        height=image.height,
        sia_gen=__version__,
    )


def prepare_pipeline(pipeline: SDASPipeline, accelerator: Accelerator) -> None:
    """Moves a pipeline to the device; its UNet, and only that, computes in mixed precision."""
    pipeline.to(accelerator.device)
    accelerator.prepare_model(pipeline.unet, evaluation_mode=True)
    pipeline.set_progress_bar_config(disable=True)


def corpus_header(
    recipe: Recipe, pipeline: SDASPipeline, accelerator: Accelerator
) -> dict[str, str | int | float]:
    """What all shards have in common."""
    settings = recipe.synthesis
    return asdict(
        CorpusHeader(
            sia_gen=__version__,
            recipe=recipe.hash(),
            dataset=recipe.name,
            seed=recipe.seed,
            images=settings.images,
            strength=str(Strength.parse(settings.strength)),
            steps=settings.steps,
            sampler=type(pipeline.scheduler).__name__,
            guidance_scale=settings.guidance_scale,
            batch_size=settings.batch_size,
            precision=accelerator.mixed_precision,
            shard_size=settings.shard_size,
            format=settings.format,
            mode=recipe.mode,
            image_size=pipeline.unet.config.sample_size,
        )
    )


def common_header(
    recipe: Recipe, sources: Sources, categories: Sequence[str], accelerator: Accelerator
) -> dict[str, str | int | float]:
    """The header of a corpus; every model is opened once, one at a time, to see that it fits.

    Raises:
        ModelError: If a model is missing, damaged, or makes images of another size than the first.
    """
    header: dict[str, str | int | float] = {}
    for category in categories:
        pipeline = sources.load(category)
        header = header or corpus_header(recipe, pipeline, accelerator)
        size = pipeline.unet.config.sample_size
        if size != header["image_size"]:
            raise ModelError(
                problem=f"the model in {sources.folder(category)} makes images of {size} pixels, "
                f"the one of '{categories[0]}' of {header['image_size']}.",
                fix="Make the categories one by one with --category, each with its own --out.",
            )
    return header


def plan_for(recipe: Recipe, categories: Sequence[str]) -> list[ShardPlan]:
    """The plan of a corpus of these categories, in the recipe's order."""
    ordered = [category for category in recipe.categories if category in categories]
    settings = recipe.synthesis
    return plan_corpus(recipe.name, ordered, settings.images, settings.shard_size)


def categories_in(corpus: Path) -> list[str]:
    """Categories of which the folder already has a plan."""
    if not (corpus / MANIFEST).is_file():
        return []
    return [shard["category"] for shard in read_manifest(corpus)["shards"]]


def check_same_models(corpus: Path, shards: Sequence[ShardPlan], hashes: dict[str, str]) -> None:
    """Refuses to continue a category with another model than it was begun with."""
    for shard in shards:
        record = read_record(corpus, shard)
        if record is not None and record["model"] != hashes[shard.category]:
            raise OutputError(
                problem=f"{corpus} holds samples of '{shard.category}' by another model "
                f"({record['model'][:12]}, not {hashes[shard.category][:12]}).",
                fix="Choose another folder with --out, or make them again with --no-resume.",
            )
