"""AFS: the losses of all channels in one pass of the backbone, against a pass for every block.

    python benchmarks/feature_selection.py --batches 2

The paper's configuration (`wide_resnet50_2`, layers 1 to 4, 256 pixels) with random weights. The
authors' code goes through all batches once for every block, in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measuring import in_turns, median, ratio, save, show, show_profile

from sia_gen.realnet.channels import channel_loss, channel_losses
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.device import Runtime

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
PER_BLOCK, PER_BLOCK_HALF, OURS = "a pass per block, float32", "a pass per block, ours", "one pass"
LIMIT = "one pass of the backbone over the batches"


def per_block(model: RealNet, batches: list[Batch]) -> list[torch.Tensor]:
    """The mean losses of every layer, with all batches read again for each."""
    found = []
    for layer in range(len(model.backbone.channels)):
        losses = [
            channel_loss(model.features(a)[layer], model.features(n)[layer], mask)
            for a, n, mask in batches
        ]
        found.append(torch.stack(losses).mean(dim=0))
    return found


def one_pass(model: RealNet, batches: list[Batch]) -> list[torch.Tensor]:
    """The same as `fit-realnet` computes it."""
    losses = [channel_losses(model.features(a), model.features(n), mask) for a, n, mask in batches]
    return list(torch.stack(losses).mean(dim=0).float().split(model.backbone.channels))


@torch.no_grad()
def main() -> None:
    """Prints a table, and writes `feature_selection.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show what bounds our pass")
    options = parser.parse_args()
    accelerator = Runtime().accelerator()
    device, size = accelerator.device, 256
    torch.manual_seed(0)
    plain = RealNet(image_size=size).to(device)
    ours = RealNet(image_size=size).to(device, memory_format=torch.channels_last)
    ours.load_state_dict(plain.state_dict())
    batches = []
    for _ in range(options.batches):
        normal = torch.rand(options.batch_size, 3, size, size, device=device)
        mask = (torch.rand(options.batch_size, 1, size, size, device=device) > 0.8).float()
        batches.append((normal * (1 - 0.5 * mask), normal, mask))

    def half(run: Callable[[RealNet, list[Batch]], list[torch.Tensor]]) -> Callable[[], None]:
        def autocast() -> None:
            with accelerator.autocast():
                run(ours, batches)

        return autocast

    pairs = zip(per_block(plain, batches), one_pass(plain, batches), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in pairs)
    runs = {
        PER_BLOCK: lambda: per_block(plain, batches),
        PER_BLOCK_HALF: half(per_block),
        OURS: half(one_pass),
    }
    rounds = in_turns(runs, options.rounds)
    rows = [[name, median(rounds, name), ratio(rounds, name, OURS)] for name in runs]
    show("AFS", ["", "seconds", "times ours"], rows)
    shares = show_profile(OURS, runs[OURS], device) if options.profile else []
    save("feature_selection", device, LIMIT, vars(options) | {"rows": rows, "shares": shares})


if __name__ == "__main__":
    main()
