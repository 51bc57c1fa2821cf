"""Synthesis: images per second of the SDAS pipeline, and what each measure gains.

    python benchmarks/synthesis.py --preset small --image-size 128 --batch-size 4 8
    python benchmarks/synthesis.py --preset adm-256 --image-size 256 --batch-size 16 32 --guided

The row "float32, eager" is the loop as the paper's code runs it: one kernel after another,
attention as two products and a softmax; on a GPU torch's convolutions round to TF32 unless told not
to, so there a row without that stands above it. Each further row adds one measure to those above
it, and all run in turns; --measures takes some of them. Weights are random; images per second and
hours are those of 20 steps; "times eager" is the median of the ratios of the rounds. The limit is
the device's product of large matrices in the precision of the row; beside it stands the share of
the time that the network's passes take alone. What does not fit into the memory of the device has
no row. CUDA graphs need a GPU, and so does compilation, but for --compile. --profile shows what
takes the time of the last row.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from measuring import (
    CORPUS,
    PAPER_STEPS,
    in_turns,
    matrix_product,
    median,
    peak_memory,
    ratio,
    save,
    show,
    show_profile,
)
from torch.utils.flop_counter import FlopCounterMode

from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.state import scheduler_for
from sia_gen.networks.classifier import PRESETS, NoisyClassifier
from sia_gen.networks.unet import build_unet, forward_flops
from sia_gen.runtime.device import compile_network
from sia_gen.sdas.pipeline import SDASPipeline

EXACT, EAGER = "float32, no TF32", "float32, eager"
HALF, LAST, FUSED = "bfloat16", "channels last", "fused attention"
COMPILED, NORMS, GRAPHS = "torch.compile", "norms by channels", "CUDA graphs"
RUNGS = (EXACT, EAGER, HALF, LAST, FUSED, COMPILED, NORMS, GRAPHS)
COMPILED_RUNGS = RUNGS[RUNGS.index(COMPILED) :]
CLASSES = 15
LIMIT = "the largest product of square matrices in the same precision"


def make_pipeline(
    unet: UNet2DModel, classifier: NoisyClassifier | None, rung: str, device: torch.device
) -> SDASPipeline:
    """A pipeline with all measures up to and including `rung`, but for the precision."""
    taken = RUNGS[: RUNGS.index(rung) + 1]
    pipeline = SDASPipeline(copy.deepcopy(unet), scheduler_for(unet), copy.deepcopy(classifier))
    for network in (pipeline.unet, pipeline.classifier):
        if network is None:
            continue
        for module in network.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor2_0() if FUSED in taken else AttnProcessor())
        # As in `synthesize`: a compiled classifier would compute gradients of its weights too.
        network.to(device).requires_grad_(False)
        if LAST in taken:
            network.to(memory_format=torch.channels_last)
        if NORMS in taken:
            compile_network(network, graphs=GRAPHS in taken)
        elif COMPILED in taken:
            network.compile(dynamic=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def precision(rung: str, kind: str) -> AbstractContextManager[Any]:
    """What a measure computes in, on a kind of device."""
    if rung == EXACT:
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    if rung == EAGER:
        return nullcontext()
    # As in `synthesize`, where every pass of the network makes its own copies of the weights.
    return torch.autocast(kind, torch.bfloat16, cache_enabled=False)


def sampler(
    pipeline: SDASPipeline, rung: str, images: int, options: argparse.Namespace
) -> Callable[[], Any]:
    """Makes a batch of images with a pipeline, in the precision of the rung."""

    def run() -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
        labels = 0 if options.guided else None
        guidance = float(options.guided)
        with precision(rung, pipeline.device.type):
            pipeline(images, 0.15, generators, options.steps, labels, guidance, output_type="pt")

    return run


def network(
    pipeline: SDASPipeline, rung: str, images: int, options: argparse.Namespace
) -> Callable[[], Any]:
    """As many passes of the network as a batch of images takes, and nothing else."""
    config = pipeline.unet.config
    shape = (images, config.in_channels, config.sample_size, config.sample_size)
    sample, timestep = torch.randn(shape, device=pipeline.device), torch.tensor(500)

    @torch.no_grad()
    def run() -> None:
        with precision(rung, pipeline.device.type):
            for _ in range(options.steps):
                # Called as the pipeline does, or it would be compiled once more.
                pipeline.unet(sample, timestep, class_labels=None)

    return run


def guidance_flops(classifier: NoisyClassifier) -> int:
    """Operations of the gradient that guides one image for one step; nothing is computed.

    The way back to the image, which leaves the weights alone, has the products of the way there.
    """
    config = classifier.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        NoisyClassifier.from_config(config)(torch.zeros(shape), torch.zeros(()))
    return 2 * int(counter.get_total_flops())


def measure(
    unet: UNet2DModel,
    classifier: NoisyClassifier | None,
    images: int,
    options: argparse.Namespace,
    device: torch.device,
) -> list[dict[str, Any]]:
    """The rows of one batch size."""

    def make(rung: str) -> Callable[[], Any]:
        return sampler(make_pipeline(unet, classifier, rung, device), rung, images, options)

    # torch keeps few programs of one function.
    torch.compiler.reset()
    memory = {}
    for rung in RUNGS:
        if runs_here(rung, device, options):
            # Each way is alone on the GPU when its memory is measured.
            with suppress(torch.OutOfMemoryError):
                memory[rung] = peak_memory(lambda rung=rung: make(rung)(), device)
    rungs = list(memory)
    torch.compiler.reset()
    runs = {}
    for rung in rungs:
        pipeline = make_pipeline(unet, classifier, rung, device)
        runs[rung] = sampler(pipeline, rung, images, options)
        runs[f"network, {rung}"] = network(pipeline, rung, images, options)
    flops = forward_flops(unet) + (guidance_flops(classifier) if classifier else 0)
    work = flops * options.steps * images
    on_gpu = device.type == "cuda"
    products = {
        EXACT: matrix_product(device, torch.float32),
        EAGER: matrix_product(device, torch.float32, tf32=on_gpu),
        HALF: matrix_product(device, torch.bfloat16),
    }
    limits = {f"limit of {kind}": product for kind, (_, product) in products.items()}
    rounds = in_turns(runs | limits, options.rounds)
    slow = EAGER if EAGER in runs else rungs[0]
    rows = []
    for rung in rungs:
        taken, kind = median(rounds, rung), rung if rung in products else HALF
        rate = images * options.steps / PAPER_STEPS / taken
        rows.append(
            {
                "batch": images,
                "measure": rung,
                "images/s": rate,
                "times eager": ratio(rounds, slow, rung),
                "of the peak": ratio(rounds, f"limit of {kind}", rung) * work / products[kind][0],
                "network alone": ratio(rounds, f"network, {rung}", rung),
                "peak GiB": memory[rung],
                "hours for 360,000": CORPUS / rate / 3600,
            }
        )
    return rows


def runs_here(rung: str, device: torch.device, options: argparse.Namespace) -> bool:
    """Whether a measure is tried on this device."""
    if options.measures:
        return rung in options.measures
    if device.type == "cuda":
        return True
    return rung not in (EXACT, GRAPHS) and (options.compile or rung not in COMPILED_RUNGS)


def main() -> None:
    """Prints a table, and writes `synthesis-PRESET-SIZE.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4])
    parser.add_argument("--steps", type=int, default=PAPER_STEPS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guided", action="store_true", help="with classifier guidance")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--profile", action="store_true", help="show what bounds the last row")
    parser.add_argument("--measures", nargs="+", choices=RUNGS, help="only these rows")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    variance = "learned_range" if options.preset == "adm-256" else "fixed"
    settings = Diffusion(preset=options.preset, image_size=options.image_size, variance=variance)
    unet, classifier = build_unet(settings, channels=3).eval(), None
    if options.guided:
        kind = PRESETS.get(options.preset, PRESETS["small"])
        size = {"sample_size": options.image_size, "in_channels": 3, "num_classes": CLASSES}
        classifier = NoisyClassifier(**size, **kind).eval()
    guided = ", guided" if options.guided else ""
    title = f"{options.preset}, {options.image_size} pixels, {options.steps} steps{guided}"
    name = f"synthesis-{options.preset}-{options.image_size}{'-guided' if guided else ''}"
    rows: list[dict[str, Any]] = []
    for images in options.batch_size:
        rows += measure(unet, classifier, images, options, device)
        # A batch that is too large for the device has no rows.
        if rows:
            show(title, list(rows[0]), [list(row.values()) for row in rows])
        save(name, device, LIMIT, vars(options) | {"rows": rows})
    if options.profile and rows:
        images, rung = rows[-1]["batch"], rows[-1]["measure"]
        run = sampler(make_pipeline(unet, classifier, rung, device), rung, images, options)
        shares = show_profile(f"{rung}, batch {images}", run, device)
        save(name, device, LIMIT, vars(options) | {"rows": rows, "shares": shares})


if __name__ == "__main__":
    main()
