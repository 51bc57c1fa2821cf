"""A training step of RealNet in the paper's configuration: float32 and eager, against ours.

    python benchmarks/realnet_step.py --batch-size 16

Both take the features of the backbone once for each image; what differs is the precision and the
layout of memory. Weights are random; one network takes the steps in turns, laid out anew in
between, for with Adam it takes 10 GB. On a GPU the peak memory of each way stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext

import torch
from measuring import in_turns, median, peak_memory, ratio, save, show

from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective
from sia_gen.runtime import make_accelerator

EAGER, OURS = "float32, eager", "ours: mixed precision, channels last"
LAYOUTS = {EAGER: torch.contiguous_format, OURS: torch.channels_last}
LIMIT = "the same step in float32, eager"


def lay_out(model: RealNet, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Brings the weights and their moments into a layout of memory."""
    model.to(memory_format=layout)
    for moments in optimizer.state.values():
        for name, values in moments.items():
            if values.ndim == 4:
                moments[name] = values.contiguous(memory_format=layout)


def main() -> None:
    """Prints a table, and writes `realnet_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    accelerator = make_accelerator(None, "auto")
    device, size = accelerator.device, options.image_size
    torch.manual_seed(0)
    model = RealNet(image_size=size).to(device).train()
    objective = RealNetObjective(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4)
    images = torch.rand(2, options.batch_size, 3, size, size, device=device)
    mask = (images[0][:, :1] > 0.9).float()

    def step(way: str) -> Callable[[], None]:
        def run() -> None:
            with nullcontext() if way == EAGER else accelerator.autocast():
                losses = objective(images[0], images[1], mask)
            sum(losses).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def prepare(way: str) -> None:
        lay_out(model, optimizer, LAYOUTS[way])

    runs = {way: step(way) for way in LAYOUTS}
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
