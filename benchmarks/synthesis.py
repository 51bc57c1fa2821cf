"""Synthesis: images per second of the SDAS pipeline, and what each measure gains.

    python benchmarks/synthesis.py --preset small --image-size 128 --batch-size 4 8
    python benchmarks/synthesis.py --preset adm-256 --image-size 256 --batch-size 16 32 --guided

The first row is the loop as the paper's code runs it: float32, one kernel after another, attention
as two products and a softmax. Each further row adds one measure to those above it, and all run in
turns. Weights are random. The limit is the device's largest product of matrices in the precision of
the row; compilation and CUDA graphs are tried on a GPU, or with --compile.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from measuring import in_turns, matrix_peak, median, ratio, save, show

from sia_gen.corpus.estimate import forward_flops
from sia_gen.diffusion.classifier import NoisyClassifier
from sia_gen.diffusion.classifier_presets import PRESETS
from sia_gen.diffusion.unet import build_unet
from sia_gen.sdas.pipeline import SDASPipeline
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.settings import Diffusion

EAGER, HALF, LAST, FUSED = "float32, eager", "bfloat16", "channels last", "fused attention"
COMPILED, GRAPHS = "torch.compile", "CUDA graphs"
RUNGS = (EAGER, HALF, LAST, FUSED, COMPILED, GRAPHS)
PAPER_STEPS, CORPUS = 20, 360_000
LIMIT = "the largest product of square matrices in the same precision"


def make_pipeline(unet: UNet2DModel, classifier: NoisyClassifier | None, rung: str) -> SDASPipeline:
    """A pipeline with all measures up to and including `rung`, but for the precision."""
    taken = RUNGS[: RUNGS.index(rung) + 1]
    network, guide = copy.deepcopy(unet), copy.deepcopy(classifier)
    for module in network.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor2_0() if FUSED in taken else AttnProcessor())
    if LAST in taken:
        network.to(memory_format=torch.channels_last)
    if COMPILED in taken:
        network.compile(mode="reduce-overhead" if GRAPHS in taken else "default")
    scheduler = PerturbedDDPMScheduler(
        timestep_spacing="leading",
        variance_type="learned_range" if unet.config.out_channels > 3 else "fixed_small",
    )
    pipeline = SDASPipeline(network, scheduler, guide)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sampler(
    pipeline: SDASPipeline, rung: str, images: int, steps: int, guidance: float
) -> Callable[[], Any]:
    """Makes a batch of images with a pipeline, in the precision of the rung."""
    kind = pipeline.device.type

    def run() -> None:
        half = nullcontext() if rung == EAGER else torch.autocast(kind, torch.bfloat16)
        generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
        labels = 0 if guidance else None
        with half:
            pipeline(images, 0.15, generators, steps, labels, guidance, output_type="pt")

    return run


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """The most memory in GiB that a run holds on a GPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**30


def measure(
    unet: UNet2DModel,
    classifier: NoisyClassifier | None,
    rungs: list[str],
    images: int,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """The rows of one batch size."""
    device, guidance = unet.device, 1.0 if classifier else 0.0
    peaks = {name: matrix_peak(device, kind) for name, kind in precisions().items()}
    runs = {
        rung: sampler(make_pipeline(unet, classifier, rung), rung, images, options.steps, guidance)
        for rung in rungs
    }
    rounds = in_turns(runs, options.rounds)
    flops = forward_flops(unet) * options.steps * images
    rows = []
    for rung in rungs:
        taken = median(rounds, rung)
        rate = images * options.steps / PAPER_STEPS / taken
        peak = peaks["float32" if rung == EAGER else "bfloat16"]
        rows.append(
            {
                "batch": images,
                "measure": rung,
                "images/s": rate,
                "times eager": ratio(rounds, EAGER, rung),
                "of the peak": None if guidance else flops / taken / peak,
                "peak GiB": peak_memory(runs[rung], device),
                "hours for 360,000": CORPUS / rate / 3600,
            }
        )
    return rows


def precisions() -> dict[str, torch.dtype]:
    """What networks compute in."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Prints a table, and writes `synthesis.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4])
    parser.add_argument("--steps", type=int, default=PAPER_STEPS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guided", action="store_true", help="with classifier guidance")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    variance = "learned_range" if options.preset == "adm-256" else "fixed"
    settings = Diffusion(preset=options.preset, image_size=options.image_size, variance=variance)
    unet = build_unet(settings, channels=3).to(device).eval()
    classifier = None
    if options.guided:
        kind = options.preset if options.preset in PRESETS else "small"
        classifier = NoisyClassifier(options.image_size, 3, 15, **PRESETS[kind]).to(device).eval()
    rungs = [EAGER, HALF, LAST, FUSED]
    if device.type == "cuda" or options.compile:
        rungs.append(COMPILED)
    if device.type == "cuda":
        rungs.append(GRAPHS)
    rows = [
        row
        for images in options.batch_size
        for row in measure(unet, classifier, rungs, images, options)
    ]
    guided = ", guided" if options.guided else ""
    title = f"{options.preset}, {options.image_size} pixels, {options.steps} steps{guided}"
    show(title, list(rows[0]), [["" if x is None else x for x in row.values()] for row in rows])
    save("synthesis", device, LIMIT, vars(options) | {"rows": rows})


if __name__ == "__main__":
    main()
