"""Makes all 360,000 samples of SIA with a tiny model, verifies and resumes them.

    python benchmarks/corpus_scale.py --images 10000

Every row is a command of its own; memory is the most that it and its children had at once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from commands import run
from diffusers import UNet2DModel
from measuring import save, show

from sia_gen.config.recipe import all_categories, load_corpus_recipe
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

LIMIT = "ten times the samples take ten times the time, and no more memory"


def save_models(runs: Path) -> None:
    """Saves one untrained model of 16 pixels for every category."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
    SDASPipeline(unet, PerturbedDDPMScheduler(timestep_spacing="leading")).save_pretrained(
        runs / "m"
    )
    for recipe, category in all_categories(load_corpus_recipe("sia-360k")):
        shutil.copytree(runs / "m", runs / recipe.name / "diffusion" / category)


def main() -> None:
    """Prints a table, and writes `corpus_scale.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="10000", help="per category")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_models(folder / "runs")
        synthesize = ["synthesize", "--recipe", "sia-360k", "--images", images, "--steps", "1"]
        corpus = "runs/sia-360k/corpus"
        commands = {
            "synthesize": [*synthesize, "--device", "cpu"],
            "synthesize again, all there": [*synthesize, "--device", "cpu"],
            "verify": ["verify", corpus],
            "plan": [*synthesize, "--device", "cpu", "--plan"],
        }
        costs = {title: run(*command, cwd=folder) for title, command in commands.items()}
        shards = json.loads((folder / corpus / "manifest.json").read_text())["shards"]
    samples, size = (sum(shard[field] for shard in shards) for field in ("samples", "bytes"))
    title = f"{samples} samples, {size / 1e6:.0f} MB, {len(shards)} shards"
    rows = [[name, cost.seconds, cost.busy, cost.mebibytes] for name, cost in costs.items()]
    show(title, ["", "seconds", "of CPU time", "peak MiB"], rows)
    save("corpus_scale", "cpu", LIMIT, {"samples": samples, "bytes": size, "rows": rows})


if __name__ == "__main__":
    main()
