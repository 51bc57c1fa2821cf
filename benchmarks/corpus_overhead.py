"""What shards, PNG and the manifest cost: `synthesize` against the bare loop of its pipeline.

    python benchmarks/corpus_overhead.py --rounds 5
    python benchmarks/corpus_overhead.py --preset base --image-size 256 --images 128

Both make the same samples with an untrained model, in turns, in one process; images per second and
hours are those of 20 steps. Samples of an untrained model are noise, which compresses worst.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import CORPUS, PAPER_STEPS, median, ratio, save, seconds, show

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import Pipelines, synthesize
from sia_gen.corpus.plan import plan_corpus
from sia_gen.corpus.sampling import SampleMaker, prepare_pipeline
from sia_gen.diffusion.state import scheduler_for
from sia_gen.networks.unet import build_unet
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.pipeline import SDASPipeline

LIMIT = "the bare loop of the pipeline"
# Seconds by the clock, and of the cores.
Cost = tuple[float, float]


def bare(recipe: Recipe, models: Path, runtime: Runtime) -> Cost:
    """What the loop alone takes, with the model loaded."""
    categories = all_categories(recipe)
    pipeline = Pipelines(recipe, categories, models).load(categories[0])
    accelerator = runtime.accelerator()
    execution = runtime.execution(accelerator.device, compiled=False)
    prepare_pipeline(pipeline, accelerator, execution)

    def run() -> None:
        for shard in plan_corpus(all_categories(recipe), recipe.synthesis):
            for indices in shard.batches(recipe.synthesis.batch_size):
                SampleMaker(recipe).make(pipeline, shard, indices, model="")

    return cost(run)


def whole(recipe: Recipe, models: Path, runtime: Runtime) -> Cost:
    """What everything takes, less a run that finds nothing to do."""
    with tempfile.TemporaryDirectory() as out:

        def run() -> None:
            synthesize(recipe, all_categories(recipe), models, Path(out), runtime)

        first, again = cost(run), cost(run)
    return first[0] - again[0], first[1] - again[1]


def cost(run: Callable[[], None]) -> Cost:
    """Seconds by the clock, and those that the cores were busy with it."""
    busy = time.process_time()
    taken = seconds(run)
    return taken, time.process_time() - busy


def make_recipe(options: argparse.Namespace) -> Recipe:
    """A small corpus of colour images."""
    changes = {
        "categories": ["mono"],
        "mode": "RGB",
        "diffusion.preset": options.preset,
        "diffusion.image_size": options.image_size,
        "diffusion.variance": "learned_range" if options.preset == "adm-256" else "fixed",
        "synthesis.images": options.images,
        "synthesis.steps": options.steps,
        "synthesis.batch_size": options.batch_size,
        "synthesis.shard_size": max(1, options.images // 2),
    }
    return Recipe.load("elpv").override(changes)


def main() -> None:
    """Prints a table, and writes `corpus_overhead-PRESET-SIZE.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=PAPER_STEPS)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    recipe, runtime = make_recipe(options), Runtime()
    clock: list[dict[str, float]] = []
    cores: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        torch.manual_seed(0)
        unet = build_unet(recipe.diffusion, channels=3)
        SDASPipeline(unet, scheduler_for(unet)).save_pretrained(models / "mono")
        bare(recipe, models, runtime)
        for number in range(options.rounds):
            # In turns, so that a slow minute of the machine falls on both.
            order = (bare, whole) if number % 2 else (whole, bare)
            one = {run.__name__: run(recipe, models, runtime) for run in order}
            clock.append({name: taken for name, (taken, _) in one.items()})
            cores.append({name: busy for name, (_, busy) in one.items()})
    # In samples of the paper's steps.
    samples = options.images * options.steps / PAPER_STEPS
    rows = []
    for kind in ("bare", "whole"):
        taken = median(clock, kind)
        rate = samples / taken
        row = [kind, taken, rate, CORPUS / rate / 3600, ratio(clock, kind, "bare")]
        rows.append([*row, ratio(cores, kind, "bare")])
    title = f"{options.preset}, {options.image_size} pixels, {options.images} samples"
    columns = ["", "seconds", "images/s", "hours for 360,000", "of the loop", "of its CPU time"]
    show(title, columns, rows)
    device = runtime.accelerator().device
    name = f"corpus_overhead-{options.preset}-{options.image_size}"
    save(name, device, LIMIT, vars(options) | {"rows": rows, "clock": clock})


if __name__ == "__main__":
    main()
