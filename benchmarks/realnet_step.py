"""A training step of RealNet in the paper's configuration, against the same step done naively.

    python benchmarks/realnet_step.py --batch-size 16 --rounds 3

The naive step computes in float32, and the features of the backbone again for every block, as the
authors' does. Weights are random. On a GPU the peak memory is printed too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn import functional

from sia_gen.realnet.anomalies import LocalAnomalies
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective
from sia_gen.realnet.sources import Piece
from sia_gen.runtime import make_accelerator


def naive_losses(model: RealNet, batch: list[torch.Tensor]) -> torch.Tensor:
    """Both losses, with one pass of the backbone per block and image."""
    anomalous, normal, mask = batch
    features = [model.selected_features(anomalous)[block] for block in range(len(model.blocks))]
    targets = [model.selected_features(normal)[block] for block in range(len(model.blocks))]
    found = model.reconstruct(features)
    pairs = zip(found, targets, strict=True)
    reconstruction = torch.stack([functional.mse_loss(a, b) for a, b in pairs]).sum()
    logits = model.decode(features, found, mask.shape[-2:])
    return reconstruction + functional.cross_entropy(logits, mask[:, 0].long())


def step(losses: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> float:
    """Seconds of one step."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    losses().backward()
    optimizer.step()
    optimizer.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ours(
    objective: RealNetObjective, batch: list[torch.Tensor], accelerator: Accelerator
) -> torch.Tensor:
    """Both losses as in training."""
    with accelerator.autocast():
        return sum(objective(*batch))


def loader_rate(size: int) -> float:
    """Samples per second of the anomaly synthesis on one core."""
    import numpy as np

    class Same:
        def draw(self, number: int, rng: np.random.Generator) -> Piece:
            return Piece(images[0], (0.5, 1.0))

    images = np.random.default_rng(0).integers(0, 256, (4, 3, size, size), np.uint8)
    anomalies = LocalAnomalies(images, [Same()], 0.5)
    started = time.perf_counter()
    for number in range(200):
        anomalies.sample(number % 4, np.random.default_rng(number), number)
    return 200 / (time.perf_counter() - started)


def main() -> None:
    """Prints a table, and writes `realnet_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    accelerator = make_accelerator(None, "auto")
    device, size = accelerator.device, arguments.image_size
    torch.manual_seed(0)
    model = RealNet(image_size=size).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    shape = (arguments.batch_size, 3, size, size)
    images = [torch.rand(shape, device=device) for _ in range(2)]
    batch = [*images, (images[0][:, :1] > 0.9).float()]
    runs = {
        "naive": partial(naive_losses, model, batch),
        "ours": partial(ours, RealNetObjective(model), batch, accelerator),
    }
    rows = []
    for number in range(arguments.rounds + 1):
        row = {name: step(losses, optimizer) for name, losses in runs.items()}
        # The first round prepares kernels.
        if number:
            rows.append(row | {"ratio": row["naive"] / row["ours"]})
            print(" | ".join(f"{name} {value:.2f}" for name, value in rows[-1].items()), flush=True)
    result = {"rounds": rows, "ratio": statistics.median(row["ratio"] for row in rows)}
    result["anomalies per second and core"] = loader_rate(size)
    if device.type == "cuda":
        for name, losses in runs.items():
            torch.cuda.reset_peak_memory_stats()
            step(losses, optimizer)
            result[f"peak GiB {name}"] = torch.cuda.max_memory_allocated() / 2**30
    print(
        {name: value for name, value in result.items() if name != "rounds"},
        accelerator.mixed_precision,
    )
    Path("realnet_step.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
