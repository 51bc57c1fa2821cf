"""A training step of RealNet in the paper's configuration: float32 and eager, against ours.

    python benchmarks/realnet_step.py --batch-size 16

All take the features of the backbone once for each image; what differs is the precision, the layout
of memory and, on a GPU or with --compile, that the step is compiled and Adam takes one pass, as in
long fits of `fit-realnet`; ours looks at the norm of the gradients and at the losses besides.
Weights are random; one network takes the steps that are not compiled in turns, laid out anew in
between, for with Adam it takes 10 GB. Beside each way stands the peak memory of a process that does
nothing else.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from measuring import alone, in_turns, median, peak_resident, ratio, save, show, show_profile
from torch import nn

from sia_gen.realnet.model import RealNet, RealNetObjective
from sia_gen.realnet.preparation import adam, lay_out_moments
from sia_gen.runtime.device import Runtime, compile_network

EAGER, OURS = "float32, eager", "ours: mixed precision, channels last"
COMPILED = "ours, compiled"
LAYOUTS = {EAGER: torch.contiguous_format, OURS: torch.channels_last}
LIMIT = "the same step in float32, eager"
RATE = 1e-4


def lay_out(model: RealNet, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Brings the weights and their moments into a layout of memory."""
    model.to(memory_format=layout)
    lay_out_moments(optimizer)


def make_optimizer(model: RealNet, *, compiled: bool = False) -> torch.optim.Optimizer:
    """That of `fit-realnet`: torch's default, which the paper's code takes, if not compiled."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return adam(trained, RATE, compiled=compiled)


def make_step(
    objective: RealNetObjective,
    optimizer: torch.optim.Optimizer,
    precision: Callable[[], AbstractContextManager[Any]],
    images: torch.Tensor,
    *,
    watched: bool = True,
) -> Callable[[], None]:
    """A step on images (2, B, 3, H, W), anomalous and normal.

    `fit-realnet` looks at the norm of the gradients and at the losses in every step, watched.
    """
    mask = (images[0][:, :1] > 0.9).float()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]

    def step() -> None:
        with precision():
            losses = objective(images[0], images[1], mask)
        sum(losses).backward()
        if watched:
            math.isfinite(nn.utils.clip_grad_norm_(trained, math.inf))
        optimizer.step()
        optimizer.zero_grad()
        if watched:
            [loss.item() for loss in losses]

    return step


def prepared(size: int, batch_size: int) -> tuple[Accelerator, RealNet, torch.Tensor]:
    """A network in training, and images for it."""
    accelerator = Runtime().accelerator()
    torch.manual_seed(0)
    model = RealNet(image_size=size).to(accelerator.device).train()
    return accelerator, model, torch.rand(2, batch_size, 3, size, size, device=accelerator.device)


def compiled_step(
    model: RealNet, accelerator: Accelerator, images: torch.Tensor
) -> Callable[[], None]:
    """A step of long fits."""
    objective = RealNetObjective(model.to(memory_format=torch.channels_last))
    compile_network(objective, graphs=True)
    return make_step(objective, make_optimizer(model, compiled=True), accelerator.autocast, images)


def peak(way: str, size: int, batch_size: int) -> float:
    """The most memory in GiB of two steps of a way, of the GPU or of the process.

    Of a GPU it is what torch holds: what runs as a graph allocates nothing.
    """
    accelerator, model, images = prepared(size, batch_size)
    if way == COMPILED:
        step = compiled_step(model, accelerator, images)
    else:
        model.to(memory_format=LAYOUTS[way])
        precision = nullcontext if way == EAGER else accelerator.autocast
        objective, optimizer = RealNetObjective(model), make_optimizer(model)
        step = make_step(objective, optimizer, precision, images, watched=way != EAGER)
    for _ in range(2):
        step()
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_reserved() / 2**30
    return peak_resident() / 2**30


def main() -> None:
    """Prints a table, and writes `realnet_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--profile", action="store_true", help="show what bounds the last row")
    options = parser.parse_args()
    size, batch_size = options.image_size, options.batch_size
    ways = [EAGER, OURS]
    if torch.cuda.is_available() or options.compile:
        ways.append(COMPILED)
    # Before anything else is in memory.
    peaks = {way: alone(peak, way, size, batch_size) for way in ways}
    accelerator, model, images = prepared(size, batch_size)
    device, objective = accelerator.device, RealNetObjective(model)
    optimizer = make_optimizer(model)
    runs = {
        EAGER: make_step(objective, optimizer, nullcontext, images, watched=False),
        OURS: make_step(objective, optimizer, accelerator.autocast, images),
    }
    if COMPILED in ways:
        runs[COMPILED] = compiled_step(copy.deepcopy(model), accelerator, images)

    def prepare(way: str) -> None:
        if way in LAYOUTS:
            lay_out(model, optimizer, LAYOUTS[way])

    rounds = in_turns(runs, options.rounds, prepare)
    rows = []
    for way in ways:
        taken, gain = median(rounds, way), ratio(rounds, EAGER, way)
        rows.append([way, taken, batch_size / taken, gain, peaks[way]])
    columns = ["", "seconds per step", "images/s", "times eager", "peak GiB"]
    show(f"RealNet, {size} pixels, batch {batch_size}", columns, rows)
    shares = []
    if options.profile:
        prepare(ways[-1])
        shares = show_profile(ways[-1], runs[ways[-1]], device)
    found = {"columns": columns, "rows": rows, "shares": shares}
    save("realnet_step", device, LIMIT, vars(options) | found)


if __name__ == "__main__":
    main()
