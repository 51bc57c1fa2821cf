"""A training step of RealNet in the paper's configuration: float32 and eager, against ours.

    python benchmarks/realnet_step.py --batch-size 16

All take the features of the backbone once for each image; what differs is the precision, the layout
of memory and, on a GPU or with --compile, that the step is compiled, as `fit-realnet` does for long
fits. Weights are random; one network takes the steps that are not compiled in turns, laid out anew
in between, for with Adam it takes 10 GB. Beside each way stands the peak memory, of the GPU or of
the process, with all networks that are in it.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from measuring import in_turns, median, peak_memory, ratio, save, show

from sia_gen.compilation import compile_network
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective, adam
from sia_gen.runtime import make_accelerator

EAGER, OURS = "float32, eager", "ours: mixed precision, channels last"
COMPILED = "ours, compiled"
LAYOUTS = {EAGER: torch.contiguous_format, OURS: torch.channels_last}
LIMIT = "the same step in float32, eager"


def lay_out(model: RealNet, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Brings the weights and their moments into a layout of memory."""
    model.to(memory_format=layout)
    for moments in optimizer.state.values():
        for name, values in moments.items():
            if values.ndim == 4:
                moments[name] = values.contiguous(memory_format=layout)


def make_optimizer(model: RealNet) -> torch.optim.Optimizer:
    """That of `fit-realnet`."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return adam(trained, 1e-4)


def make_step(
    objective: RealNetObjective,
    optimizer: torch.optim.Optimizer,
    precision: Callable[[], AbstractContextManager[Any]],
    images: torch.Tensor,
) -> Callable[[], None]:
    """A step on images (2, B, 3, H, W), anomalous and normal."""
    mask = (images[0][:, :1] > 0.9).float()

    def step() -> None:
        with precision():
            losses = objective(images[0], images[1], mask)
        sum(losses).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Prints a table, and writes `realnet_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    options = parser.parse_args()
    accelerator = make_accelerator(None, "auto")
    device, size = accelerator.device, options.image_size
    torch.manual_seed(0)
    model = RealNet(image_size=size).to(device).train()
    images = torch.rand(2, options.batch_size, 3, size, size, device=device)
    optimizer = make_optimizer(model)
    objective = RealNetObjective(model)
    runs = {
        EAGER: make_step(objective, optimizer, nullcontext, images),
        OURS: make_step(objective, optimizer, accelerator.autocast, images),
    }
    if device.type == "cuda" or options.compile:
        other = copy.deepcopy(model)
        compiled = RealNetObjective(other)
        compile_network(compiled, graphs=True)
        runs[COMPILED] = make_step(compiled, make_optimizer(other), accelerator.autocast, images)

    def prepare(way: str) -> None:
        if way in LAYOUTS:
            lay_out(model, optimizer, LAYOUTS[way])

    rounds = in_turns(runs, options.rounds, prepare)
    rows = []
    for way, run in runs.items():
        prepare(way)
        taken, gain = median(rounds, way), ratio(rounds, EAGER, way)
        rows.append([way, taken, options.batch_size / taken, gain, peak_memory(run, device)])
    columns = ["", "seconds per step", "images/s", "times eager", "peak GiB"]
    show(f"RealNet, {size} pixels, batch {options.batch_size}", columns, rows)
    save("realnet_step", device, LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
