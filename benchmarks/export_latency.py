"""Latency of an exported detector beside that of anomalib's exported PatchCore, batches of one.

    python benchmarks/export_latency.py demo/realnet/mono

Both are ONNX programs with the same backbone, layers, image size and number of patches, and run in
turns by ONNX Runtime. The patches of PatchCore are random, which does not matter for the time.
`pip install 'anomalib>=2.7'`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from measuring import save, show
from patchcore import STRIDES

from sia_gen.deployment.export import export_realnet
from sia_gen.realnet.inference import load_realnet
from sia_gen.realnet.model import RealNet

LIMIT = "anomalib's PatchCore"


def export_patchcore(realnet: RealNet, path: Path) -> None:
    """Exports a PatchCore with as many patches as the memory of a RealNet."""
    assert realnet.memory is not None
    reductions = realnet.backbone.features.feature_info.reduction()
    assert list(reductions) == list(STRIDES)
    layers = list(realnet.backbone.features.feature_info.out_indices)
    model = PatchcoreModel(layers, realnet.backbone.name, pre_trained=False).eval()
    channels = sum(realnet.backbone.channels)
    model.memory_bank = torch.randn(len(realnet.memory.patches), channels)
    image = torch.rand(1, 3, realnet.image_size, realnet.image_size)
    torch.onnx.export(model, (image,), path, dynamo=False, opset_version=17)


def main() -> None:
    """Prints a table, and writes `export_latency.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    model = load_realnet(options.model).model
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.onnx"), Path(folder, "theirs.onnx")
        export_realnet(options.model, ours)
        export_patchcore(model, theirs)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        sessions = [onnxruntime.InferenceSession(path, settings) for path in (ours, theirs)]
        times: list[list[float]] = [[], []]
        for _ in range(options.rounds):
            for session, taken in zip(sessions, times, strict=True):
                given = session.get_inputs()[0]
                channels = given.shape[1] if isinstance(given.shape[1], int) else 3
                size = model.image_size
                image = np.random.default_rng(0).random((1, channels, size, size), np.float32)
                started = time.perf_counter()
                session.run(None, {given.name: image})
                taken.append(time.perf_counter() - started)
    names = ("sia-gen, retrieval", "anomalib, PatchCore")
    rows = [
        [
            name,
            1000 * statistics.median(taken),
            statistics.median(one / other for one, other in zip(taken, times[1], strict=True)),
        ]
        for name, taken in zip(names, times, strict=True)
    ]
    columns = ["exported to ONNX", "milliseconds", "times PatchCore"]
    show(f"Batches of one, {options.threads} threads", columns, rows)
    save("export_latency", "cpu", LIMIT, vars(options) | {"rows": rows})


if __name__ == "__main__":
    main()
