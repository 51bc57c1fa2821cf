"""RealNet's inference: images per second and the latency of one image.

    python benchmarks/realnet_inference.py --batch-size 1 8

The paper's configuration (`wide_resnet50_2`, 256 pixels) with random weights, in turns: float32 and
eager in the usual layout of memory, mixed precision and channels last, the exported ONNX program,
and, on a GPU or with --compile, the compiled network, as `predict` makes one for many images.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import in_turns, median, ratio, save, show, show_profile

from sia_gen.deployment.export import Plain
from sia_gen.deployment.formats import Example, onnx_program
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.device import Runtime, compile_network

EAGER, OURS, ONNX, COMPILED = "float32, eager", "ours", "ONNX, float32", "ours, compiled"
LIMIT = "the same network in float32, eager"


def onnx_session(model: RealNet, folder: Path, images: torch.Tensor) -> Any:
    """The exported model, ready to run on the CPU with as many threads as torch."""
    import onnxruntime

    path = folder / "realnet.onnx"
    example = Example(images[:2].expand(2, -1, -1, -1).cpu(), {0: "batch"})
    onnx_program(Plain(copy.deepcopy(model)).eval(), example).save(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def make_runs(model: RealNet, compile_too: bool, session: Any) -> dict[str, Callable[..., Any]]:
    """Each way to score a batch of images, by its name."""
    accelerator = Runtime().accelerator()
    ours = copy.deepcopy(model).to(memory_format=torch.channels_last)
    compiled = copy.deepcopy(ours)
    if compile_too:
        compile_network(compiled, graphs=True)

    def half(network: Any) -> Callable[[torch.Tensor], Any]:
        def run(images: torch.Tensor) -> Any:
            with accelerator.autocast():
                return network(images).score.cpu()

        return run

    runs: dict[str, Callable[..., Any]] = {
        EAGER: lambda images: model(images).score.cpu(),
        OURS: half(ours),
    }
    if session is not None:
        runs[ONNX] = lambda images: session.run(["score"], {"images": images.numpy()})
    if compile_too:
        runs[COMPILED] = half(compiled)
    return runs


@torch.no_grad()
def main() -> None:
    """Prints a table, and writes `realnet_inference.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument(
        "--profile", action="store_true", help="show what bounds each batch of ours"
    )
    options = parser.parse_args()
    device = Runtime().accelerator().device
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    model = RealNet(image_size=options.image_size).eval()
    images = torch.rand(max(options.batch_size), 3, options.image_size, options.image_size)
    with tempfile.TemporaryDirectory() as folder:
        session = None if on_gpu else onnx_session(model, Path(folder), images)
        runs = make_runs(model.to(device), on_gpu or options.compile, session)
        rows: list[list[Any]] = []
        shares: dict[int, Any] = {}
        for count in options.batch_size:
            batch = images[:count].to(device)
            bound = {name: lambda run=run, batch=batch: run(batch) for name, run in runs.items()}
            rounds = in_turns(bound, options.rounds)
            for name in runs:
                taken = median(rounds, name)
                rows.append([count, name, count / taken, 1000 * taken, ratio(rounds, EAGER, name)])
            if options.profile:
                shares[count] = show_profile(f"{OURS}, batch {count}", bound[OURS], device)
    columns = ["batch", "", "images/s", "milliseconds per batch", "times eager"]
    show(f"RealNet, wide_resnet50_2, {options.image_size} pixels", columns, rows)
    found = {"columns": columns, "rows": rows, "shares": shares}
    save("realnet_inference", device, LIMIT, vars(options) | found)


if __name__ == "__main__":
    main()
