"""Perturbations: what the fields of correlated noise cost beside the network.

    python benchmarks/perturbations.py --preset tiny --image-size 64 --batch-size 20
    python benchmarks/perturbations.py --preset small --image-size 128 --batch-size 4

Samples of each kind are made in turns, by a network with random weights; "times white" is the
median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from measuring import PAPER_STEPS, in_turns, median, ratio, save, show

from sia_gen.config.settings import Diffusion
from sia_gen.config.strength import PERTURBATIONS, WHITE
from sia_gen.diffusion.state import scheduler_for
from sia_gen.networks.unet import build_unet
from sia_gen.sdas.perturbation import draw_fields
from sia_gen.sdas.pipeline import SDASPipeline

LIMIT = "1.02 times the seconds of white noise"


def main() -> None:
    """Prints a table, and writes `perturbations-PRESET-SIZE.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--steps", type=int, default=PAPER_STEPS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = Diffusion(preset=options.preset, image_size=options.image_size)
    unet = build_unet(settings, channels=3).eval()
    pipeline = SDASPipeline(unet, scheduler_for(unet)).to(device)
    pipeline.set_progress_bar_config(disable=True)
    seeds = range(options.batch_size)

    def sample(kind: str) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        given = {"perturbation": kind, "output_type": "pt"}
        pipeline(len(seeds), 0.15, generators, options.steps, **given)

    def draw(kind: str) -> None:
        shape = (3, options.image_size, options.image_size)
        draw_fields([kind] * len(seeds), shape, [*seeds], device)

    runs: dict[str, Callable[[], Any]] = {
        kind: lambda kind=kind: sample(kind) for kind in PERTURBATIONS
    }
    runs |= {f"fields of {kind}": lambda kind=kind: draw(kind) for kind in PERTURBATIONS}
    rounds = in_turns(runs, options.rounds)
    rows = [[name, median(rounds, name), ratio(rounds, name, WHITE)] for name in runs]
    columns = ["what", "seconds per batch", "times white"]
    show(f"{options.preset}, {options.image_size} pixels, {options.steps} steps", columns, rows)
    name = f"perturbations-{options.preset}-{options.image_size}"
    save(name, device, LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
