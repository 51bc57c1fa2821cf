"""What a corpus will take: shards, bytes, operations, and hours by a measurement of seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.config.settings import Synthesis
from sia_gen.corpus.pipelines import Pipelines, corpus_execution
from sia_gen.corpus.plan import ShardPlan, choose_shards, plan_corpus
from sia_gen.corpus.sampling import prepare_pipeline, sample_batch
from sia_gen.corpus.schema import SAMPLES, TWINS
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.compilation import is_compiled
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.arguments import steps_from
from sia_gen.sdas.pipeline import SDASPipeline

# Enough to measure by, on any device.
SECONDS = 5.0
# Few steps make images of about the right size in bytes.
MEASURED_STEPS = 4
# Of a mask, some regions; and in a tar file of each member, a header, and on average half of the
# block that it ends in.
MASK_BYTES, HEADER_BYTES = 200, 512 + 256
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
DEVICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Throughput:
    """What this device does.

    Attributes:
        seconds_per_step: Of one reverse step of one image.
        bytes_per_image: In the corpus.
        batch_size: Images made together when it was measured.
        device: Its name.
        compilation: Seconds that it took at the start, if the network is compiled.
    """

    seconds_per_step: float
    bytes_per_image: float
    batch_size: int
    device: str
    compilation: float = 0.0


def estimate(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    models: Path,
    runtime: Runtime,
    *,
    classifier: Path | None = None,
    shards: str | None = None,
) -> str:
    """A table of what `synthesize` would make and take; writes nothing.

    Raises:
        UserError: If a model is missing, or the shards are not there.
    """
    wanted = choose_shards(plan_corpus(categories, recipe.synthesis), shards)
    names = {shard.name for shard in wanted}
    categories = [category for category in categories if category.name in names]
    pipelines = Pipelines(recipe, categories, models, classifier)
    accelerator = runtime.accelerator()
    pipeline = pipelines.load(categories[0])
    kind = SAMPLES if recipe.synthesis.twins is None else TWINS
    execution = corpus_execution(runtime, recipe, kind, pipeline.unet, accelerator)
    prepare_pipeline(pipeline, accelerator, execution)
    measured = measure(pipeline, recipe, wanted[0])
    return table(recipe, wanted, measured, forward_flops(pipeline.unet))


def measure(pipeline: SDASPipeline, recipe: CorpusRecipe, shard: ShardPlan) -> Throughput:
    """Samples for some seconds, in batches as large as that allows."""
    few = recipe.override({"synthesis.steps": MEASURED_STEPS})

    def run(images: int) -> tuple[float, float]:
        started = time.perf_counter()
        batch = sample_batch(pipeline, few, shard, shard.indices[:images], model="")
        samples = batch.encode(recipe.synthesis.format)
        size = sum(len(value) for sample in samples for value in sample.values())
        return time.perf_counter() - started, size / len(samples)

    # The first run also prepares kernels.
    first, _ = run(1)
    alone, size = run(1)
    images = min(recipe.synthesis.batch_size, shard.samples)
    if not is_compiled(pipeline.unet):
        images = max(1, min(images, int(SECONDS / alone)))
    seconds, size = run(images) if images > 1 else (alone, size)
    start = first - alone if is_compiled(pipeline.unet) else 0.0
    name = device_name(pipeline.device)
    return Throughput(seconds / images / MEASURED_STEPS, size, images, name, start)


def steps_of(synthesis: Synthesis) -> int:
    """Steps per sample: of twins those of both, and of a photograph the inversion."""
    twins = synthesis.twins
    if twins is None:
        return synthesis.steps
    share = twins.start if twins.source == "image" else 1.0
    return (2 + twins.invert) * steps_from(share, synthesis.steps)


def bytes_of(synthesis: Synthesis, bytes_per_image: float) -> float:
    """Bytes per sample in a shard; of twins those of both images and the mask."""
    if synthesis.twins is None:
        return bytes_per_image + 2 * HEADER_BYTES
    return 2 * bytes_per_image + MASK_BYTES + 4 * HEADER_BYTES


def table(
    recipe: CorpusRecipe, shards: Sequence[ShardPlan], measured: Throughput, flops: int
) -> str:
    """What it will take, line by line."""
    samples, steps = sum(shard.samples for shard in shards), steps_of(recipe.synthesis)
    size = samples * bytes_of(recipe.synthesis, measured.bytes_per_image)
    per_sample = measured.seconds_per_step * steps
    what, twins = ("images", "") if recipe.synthesis.twins is None else ("twins", " and masks")
    largest = max(shard.samples for shard in shards)
    rows = [
        ("categories", str(len({shard.name for shard in shards}))),
        ("shards", f"{len(shards)}, of at most {largest} samples"),
        ("samples", f"{samples}"),
        ("size", f"{amount(size)}B ({recipe.synthesis.format})"),
        ("steps", f"{samples * steps} ({steps} per sample)"),
        ("operations", f"{amount(flops * samples * steps)}FLOP, without guidance{twins}"),
        (
            "measured here",
            f"{1 / per_sample:.3g} {what}/s with {measured.batch_size} at a time, "
            f"{measured.device}",
        ),
    ]
    if measured.compilation:
        rows.append(("compilation", f"{measured.compilation:.0f} s per category and process"))
    rows += [
        (f"{count} device{'s' if count > 1 else ''}", duration(shards, count, per_sample))
        for count in DEVICES
        if count == 1 or count <= len(shards)
    ]
    return "\n".join(f"{name:<14} {text}" for name, text in rows)


def amount(value: float) -> str:
    """A number with three digits and the prefix of its unit, e.g. "35.1 G"."""
    exponent = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(value, 1)) / 3)))
    return f"{value / 1000**exponent:.3g} {PREFIXES[exponent]}"


def duration(shards: Sequence[ShardPlan], devices: int, per_sample: float) -> str:
    """How long so many devices take; a shard is made by one of them."""
    mine = math.ceil(len(shards) / devices)
    seconds = sum(shard.samples for shard in shards[:mine]) * per_sample
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def device_name(device: torch.device) -> str:
    """What a device is called."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else "mps"
