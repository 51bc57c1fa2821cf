"""A training step of RealNet in the paper's configuration: float32 and eager, against ours.

    python benchmarks/realnet_step.py --batch-size 16

Both take the features of the backbone once for each image; what differs is the precision and the
layout of memory. Weights are random, and the steps run in turns. On a GPU the peak memory of each,
alone there, stands beside it.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from measuring import in_turns, median, ratio, save, show

from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective
from sia_gen.runtime import make_accelerator

EAGER, HALF, OURS = "float32, eager", "mixed precision", "+ channels last: ours"
LIMIT = "the same step in float32, eager"


def make_step(
    way: str, batch: list[torch.Tensor], size: int, accelerator: Accelerator
) -> Callable[[], None]:
    """A step of training in one of three ways."""
    torch.manual_seed(0)
    layout = torch.channels_last if way == OURS else torch.contiguous_format
    model = RealNet(image_size=size).to(accelerator.device, memory_format=layout).train()
    objective = RealNetObjective(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4)

    def step() -> None:
        with nullcontext() if way == EAGER else accelerator.autocast():
            losses = objective(*batch)
        sum(losses).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak_memory(make: Callable[[], Callable[[], Any]], device: torch.device) -> float | str:
    """The most memory in GiB that two steps hold on a GPU."""
    if device.type != "cuda":
        return "not measured"
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = make()
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    """Prints a table, and writes `realnet_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    accelerator = make_accelerator(None, "auto")
    device, size = accelerator.device, options.image_size
    images = torch.rand(2, options.batch_size, 3, size, size, device=device)
    batch = [*images, (images[0][:, :1] > 0.9).float()]

    def make(way: str) -> Callable[[], None]:
        return make_step(way, batch, size, accelerator)

    ways = (EAGER, HALF, OURS)
    memory = {way: peak_memory(lambda way=way: make(way), device) for way in ways}
    rounds = in_turns({way: make(way) for way in ways}, options.rounds)
    rows = []
    for way in ways:
        taken = median(rounds, way)
        gain = ratio(rounds, EAGER, way)
        rows.append([way, taken, options.batch_size / taken, gain, memory[way]])
    columns = ["", "seconds per step", "images/s", "times eager", "peak GiB"]
    show(f"RealNet, {size} pixels, batch {options.batch_size}", columns, rows)
    save("realnet_step", device, LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
