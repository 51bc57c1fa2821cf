"""How time and memory of a corpus grow with images, categories, shards, processes and size.

    OMP_NUM_THREADS=1 python benchmarks/growth.py

Every row is a run of `synthesize` of its own with an untrained network of one level in one step, so
that what sia-gen adds is what is seen; only the rows on image size are mostly network. One setting
differs from the first row each time, and several processes share out more. What starting up takes
is measured with a single sample, and taken off. Seconds of CPU time are those of all cores.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from commands import Cost, run
from diffusers import UNet2DModel
from measuring import save, show

from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler

BASE = {"images": 2000, "categories": 2, "shards": 4, "processes": 1, "image_size": 16}
GROWN: dict[str, list[int]] = {
    "images": [2000, 4000, 8000],
    "categories": [4, 8],
    "shards": [20, 100],
    "processes": [1, 2, 4],
    "image_size": [32, 64, 128],
}
# Several processes start up one after another, so what they share out has to be more.
SHARED_OUT = {"images": 16_000}
LIMIT = "twice the work takes twice the time, and no more memory"


def save_model(folder: Path, size: int) -> None:
    """An untrained network of one level."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
    SDASPipeline(unet, PerturbedDDPMScheduler(timestep_spacing="leading")).save_pretrained(folder)


def measure(images: int, categories: int, shards: int, processes: int, image_size: int) -> Cost:
    """What a corpus takes; `images` and `shards` are those of a category."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load_corpus_recipe("elpv").model_dump(mode="json")
        names = [f"part{number}" for number in range(categories)]
        recipe |= {"name": "parts", "categories": names, "foreground": {}}
        for category in names:
            save_model(folder / "models" / category, image_size)
        settings = {"batch_size": 16, "steps": 1, "images": images}
        recipe["synthesis"] |= settings | {"shard_size": math.ceil(images / shards)}
        (folder / "parts.yaml").write_text(yaml.safe_dump(recipe))
        command = ["synthesize", "--recipe", "parts.yaml", "--model", "models", "--device", "cpu"]
        return run(*command, "--precision", "fp32", cwd=folder, processes=processes)


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(*(statistics.median(one) for one in zip(*map(astuple, costs), strict=True)))


@cache
def start(processes: int, image_size: int) -> Cost:
    """What a single sample takes."""
    return measure(1, 1, 1, processes, image_size)


def main() -> None:
    """Prints a table, and writes `growth.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many runs is shown")
    options = parser.parse_args()
    columns = [*BASE, "seconds", "of CPU time", "CPU ms per sample", "peak MiB"]
    rows: list[list[Any]] = []
    for field, values in GROWN.items():
        for value in values:
            settings = BASE | {field: value} | (SHARED_OUT if field == "processes" else {})
            before = start(settings["processes"], settings["image_size"])
            cost = middle([measure(**settings) for _ in range(options.rounds)])
            busy = cost.busy - before.busy
            each = 1000 * busy / (settings["images"] * settings["categories"])
            taken = cost.seconds - before.seconds
            rows.append([*settings.values(), taken, busy, each, cost.mebibytes])
            print(rows[-1], flush=True)
    show("synthesize, without starting up", columns, rows)
    save("growth", "cpu", LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
