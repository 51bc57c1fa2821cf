"""Estimates the shards, bytes, operations and hours of a corpus from a short measurement."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.corpus.generate import Pipelines
from sia_gen.corpus.plan import ShardPlan, choose_shards, plan_corpus
from sia_gen.corpus.sampling import SampleMaker, steps_of
from sia_gen.corpus.schema import SAMPLES, TWINS
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.device import Runtime, is_compiled
from sia_gen.runtime.progress import in_words
from sia_gen.sdas.pipeline import SDASPipeline

# Enough for a measurement on any device.
SECONDS = 5.0
# A few steps already make images of about the right size in bytes.
MEASURED_STEPS = 4
# A mask has a few regions. In a tar file each member has a header, and on average half of the block
# in which it ends is empty.
MASK_BYTES, HEADER_BYTES = 200, 512 + 256
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
DEVICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Throughput:
    """What was measured on this device."""

    seconds_per_step: float  # and image
    bytes_per_image: float
    batch_size: int  # images that were made together
    device: str
    flops: int  # floating-point operations per reverse step and image
    compilation: float = 0.0  # seconds, 0 if the network is not compiled


def estimate(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    models: Path,
    runtime: Runtime,
    *,
    classifier: Path | None = None,
    shards: str | None = None,
) -> str:
    """Returns a table of what `synthesize` would make and take; writes nothing."""
    wanted = choose_shards(plan_corpus(categories, recipe.synthesis), shards)
    names = {shard.name for shard in wanted}
    categories = [category for category in categories if category.name in names]
    pipelines = Pipelines(recipe, categories, models, classifier)
    kind = SAMPLES if recipe.synthesis.twins is None else TWINS
    pipelines.start(runtime, runtime.accelerator(), kind)
    pipeline = pipelines.prepared(categories[0])
    return table(recipe, wanted, measure(pipeline, recipe, wanted[0]))


def measure(pipeline: SDASPipeline, recipe: CorpusRecipe, shard: ShardPlan) -> Throughput:
    """Makes samples for some seconds, in batches as large as that allows."""
    maker = SampleMaker(recipe.override({"synthesis.steps": MEASURED_STEPS}))
    compiled = is_compiled(pipeline.unet)

    def run(images: int) -> tuple[float, float]:
        started = time.perf_counter()
        batch = maker.make(pipeline, shard, shard.indices[:images], model="")
        samples = batch.encode(recipe.synthesis.format)
        size = sum(len(value) for sample in samples for value in sample.values())
        return time.perf_counter() - started, size / len(samples)

    # The first run also prepares kernels.
    first, _ = run(1)
    alone, size = run(1)
    images = min(recipe.synthesis.batch_size, shard.samples)
    if not compiled:
        images = max(1, min(images, int(SECONDS / alone)))
    seconds, size = run(images) if images > 1 else (alone, size)
    device, threads = pipeline.device.type, torch.get_num_threads()
    if device == "cuda":
        device = torch.cuda.get_device_name(pipeline.device)
    elif device == "cpu":
        device = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    return Throughput(
        seconds_per_step=seconds / images / MEASURED_STEPS,
        bytes_per_image=size,
        batch_size=images,
        device=device,
        flops=forward_flops(pipeline.unet),
        compilation=first - alone if compiled else 0.0,
    )


def table(recipe: CorpusRecipe, shards: Sequence[ShardPlan], measured: Throughput) -> str:
    """Describes line by line what the shards will take."""
    synthesis, steps = recipe.synthesis, steps_of(recipe.synthesis)
    samples = sum(shard.samples for shard in shards)
    what, twins = "images", ""
    bytes_per_sample = measured.bytes_per_image + 2 * HEADER_BYTES
    if synthesis.twins is not None:
        what, twins = "twins", " and masks"
        bytes_per_sample = 2 * measured.bytes_per_image + MASK_BYTES + 4 * HEADER_BYTES
    size = f"{_amount(samples * bytes_per_sample)}B ({synthesis.format})"
    if synthesis.twins is not None and synthesis.twins.tiles is not None:
        size = f"that of two photographs and a mask per sample ({synthesis.format})"
    operations = samples * steps * measured.flops
    per_sample = measured.seconds_per_step * steps
    rows = {
        "categories": len({shard.name for shard in shards}),
        "shards": f"{len(shards)}, of at most {max(shard.samples for shard in shards)} samples",
        "samples": samples,
        "size": size,
        "steps": f"{samples * steps} ({steps} per sample)",
        "operations": f"{_amount(operations)}FLOP, without guidance{twins}",
        "measured here": f"{1 / per_sample:.3g} {what}/s with {measured.batch_size} at a time, "
        f"{measured.device}",
    }
    if measured.compilation:
        rows["compilation"] = f"{measured.compilation:.0f} s per category and process"
    for count in DEVICES:
        if count == 1 or count <= len(shards):
            name = f"{count} device{'s' if count > 1 else ''}"
            rows[name] = duration(shards, count, per_sample)
    return "\n".join(f"{name:<14} {text}" for name, text in rows.items())


def _amount(value: float) -> str:
    """Formats a number with three digits and the prefix of its unit, e.g. "35.1 G"."""
    rounded = float(f"{value:.3g}")
    exponent = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(rounded, 1)) / 3)))
    return f"{_three_digits(rounded / 1000**exponent)} {PREFIXES[exponent]}"


def _three_digits(value: float) -> str:
    """Formats a number like "0.123", "12.3" or "12,300"."""
    return f"{float(f'{value:.3g}'):,.12g}"


def duration(shards: Sequence[ShardPlan], devices: int, per_sample: float) -> str:
    """Formats the time that a number of devices takes, of which one makes each shard."""
    mine = math.ceil(len(shards) / devices)
    seconds = sum(shard.samples for shard in shards[:mine]) * per_sample
    return in_words(seconds)
