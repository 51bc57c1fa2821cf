"""What shards, PNG and the manifest cost: `synthesize` against the bare loop of its pipeline.

    python benchmarks/corpus_overhead.py --rounds 5

Both make the same samples with an untrained `small` model, in turns, in one process. The last
column is the median over the rounds of one time divided by the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from sia_gen.collection import all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.plan import plan_corpus
from sia_gen.corpus.sampling import prepare_pipeline, sample_batch
from sia_gen.corpus.sources import Sources
from sia_gen.diffusion.unet import build_unet
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler


def bare(recipe: Recipe, models: Path, runtime: Runtime) -> float:
    """Seconds of the loop alone, with the model loaded."""
    sources = Sources(recipe, models, None)
    pipeline = sources.load(all_categories(recipe)[0])
    prepare_pipeline(pipeline, runtime.accelerator())
    started = time.monotonic()
    for shard in plan_corpus(all_categories(recipe), recipe.synthesis):
        for indices in shard.batches(recipe.synthesis.batch_size):
            sample_batch(pipeline, recipe, shard, indices, model="")
    return time.monotonic() - started


def whole(recipe: Recipe, models: Path, runtime: Runtime) -> float:
    """Seconds of everything, less those of a run that finds nothing to do."""
    with tempfile.TemporaryDirectory() as out:
        times = []
        for _ in range(2):
            started = time.monotonic()
            synthesize(recipe, all_categories(recipe), models, Path(out), runtime)
            times.append(time.monotonic() - started)
    return times[0] - times[1]


def main() -> None:
    """Prints a table, and writes `corpus_overhead.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    arguments = parser.parse_args()
    changes = {"categories": ["mono"], "diffusion.preset": "small", "diffusion.image_size": 64}
    settings = {"images": arguments.images, "steps": 5, "batch_size": 8, "shard_size": 16}
    recipe = Recipe.load("elpv").override(
        changes | {f"synthesis.{name}": value for name, value in settings.items()}
    )
    runtime = Runtime(None, "cpu")
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        torch.manual_seed(0)
        unet = build_unet(recipe.diffusion, channels=1)
        scheduler = PerturbedDDPMScheduler(timestep_spacing="leading")
        SDASPipeline(unet, scheduler).save_pretrained(models / "mono")
        bare(recipe, models, runtime)
        for number in range(arguments.rounds):
            # In turns, so that a slow minute of the machine falls on both.
            order = (bare, whole) if number % 2 else (whole, bare)
            times = {run.__name__: run(recipe, models, runtime) for run in order}
            rounds.append(times | {"ratio": times["whole"] / times["bare"]})
            print(f"| {times['bare']:.2f} s | {times['whole']:.2f} s | {rounds[-1]['ratio']:.3f} |")
    ratio = statistics.median(one["ratio"] for one in rounds)
    print(f"median ratio {ratio:.3f}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    Path("corpus_overhead.json").write_text(json.dumps({"rounds": rounds, "ratio": ratio}) + "\n")


if __name__ == "__main__":
    main()
