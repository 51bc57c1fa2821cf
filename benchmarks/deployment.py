"""Exported detectors beside the original: from files to verdicts, on real photographs.

    python benchmarks/deployment.py demo/realnet/mono --recipe demo --category mono

Every test photograph goes through the whole chain, from its file on, in float32: `Detector`, the
exports without their preprocessing (which Pillow does, as in docs/deploy.md) and with it, the
C++ program of docs/deploy.cpp if it is compiled, and the server. Tells the largest differences from
`Detector` of scores and of maps in the size of the photograph, the verdicts that differ, and the
time of a photograph on its own. Also tells how far pixels that the graph resizes, or ONNX's own
`Resize`, are from Pillow's.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import save, show
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn
from torch.nn.functional import interpolate

from sia_gen import Detector
from sia_gen.config.recipe import Recipe
from sia_gen.deployment.export import export_realnet
from sia_gen.deployment.formats import FORMATS
from sia_gen.deployment.preprocessing import Photographs
from sia_gen.images.listing import data_root, list_test_images
from sia_gen.images.squares import enlarged
from sia_gen.realnet.inference import recipe_of

LIMIT = "Detector in Python"
Pixels = NDArray[np.uint8]


class Found(NamedTuple):
    """What one way finds in a photograph, and the seconds it took."""

    score: float
    anomaly_map: NDArray[np.float32] | None
    seconds: float


def photograph(path: Path, mode: str) -> Image.Image:
    """Reads a file as docs/deploy.md does."""
    return ImageOps.exif_transpose(Image.open(path)).convert(mode)


def as_batch(image: Image.Image) -> Pixels:
    """Returns (1, H, W, C)."""
    return np.atleast_3d(np.asarray(image))[None]


def onnx_run(path: Path, threads: int) -> Callable[[Any], tuple[Any, Any]]:
    """Returns a function that runs an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["anomaly_map", "score"], {"images": images})


def openvino_run(path: Path, threads: int) -> Callable[[Any], tuple[Any, Any]]:
    """Returns a function that runs an OpenVINO file."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", options)

    def run(images: Any) -> tuple[Any, Any]:
        found = compiled({"images": images})
        return found["anomaly_map"], found["score"]

    return run


RUNS = {"onnx": onnx_run, "openvino": openvino_run}
Way = Callable[[Path], tuple[float, NDArray[np.float32] | None]]


def by_detector(detector: Detector) -> Way:
    """The original."""

    def find(path: Path) -> tuple[float, NDArray[np.float32] | None]:
        found = detector.predict(path)
        return found.score, found.anomaly_map

    return find


def by_export(
    run: Callable[[Any], tuple[Any, Any]], detector: Detector, *, preprocessing: bool
) -> Way:
    """An exported file in a runtime."""

    def find(path: Path) -> tuple[float, NDArray[np.float32] | None]:
        if preprocessing:
            maps, scores = run(as_batch(photograph(path, detector.spec.mode)))
            return float(scores[0]), maps[0, 0]
        taken = detector.take(path)
        maps, scores = run(taken.pixels[None].astype(np.float32) / 255)
        whole = (0, taken.size[1], 0, taken.size[0])
        return float(scores[0]), enlarged(maps[0, 0], type(taken.area)(*whole), taken.size)

    return find


@contextmanager
def serving(model: Path, threads: int) -> Iterator[Way]:
    """Starts `sia-gen serve`, and yields the way through it, which has no maps."""
    command = [sys.executable, "-m", "sia_gen", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--precision", "fp32", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split("//")[1].split(";")[0]

        def find(path: Path) -> tuple[float, NDArray[np.float32] | None]:
            connection = http.client.HTTPConnection(address)
            headers = {"Content-Type": "application/octet-stream"}
            connection.request("POST", "/predict", path.read_bytes(), headers)
            return json.loads(connection.getresponse().read())["score"], None

        yield find
    finally:
        process.terminate()
        process.wait()


def by_program(program: Path, model: Path, paths: Sequence[Path]) -> list[Found]:
    """The C++ program of docs/deploy.cpp, over all photographs at once."""
    began = time.perf_counter()
    lines = subprocess.run(
        [program, model, *paths], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    seconds = (time.perf_counter() - began) / len(paths)
    return [Found(float(line.split(",")[-3]), None, seconds) for line in lines]


def all_of(find: Way, paths: Sequence[Path]) -> list[Found]:
    """Sends all photographs one way, each on its own."""
    find(paths[0])
    results = []
    for path in paths:
        began = time.perf_counter()
        score, anomaly_map = find(path)
        results.append(Found(score, anomaly_map, time.perf_counter() - began))
    return results


def row(name: str, found: list[Found], original: list[Found], threshold: float) -> list[Any]:
    """The largest differences from the original, differing verdicts, and milliseconds."""
    pairs = list(zip(found, original, strict=True))
    scores = max(abs(a.score - b.score) for a, b in pairs)
    maps = [
        float(np.nanmax(np.abs(a.anomaly_map - b.anomaly_map)))
        for a, b in pairs
        if a.anomaly_map is not None and b.anomaly_map is not None
    ]
    verdicts = sum((a.score > threshold) != (b.score > threshold) for a, b in pairs)
    milliseconds = 1000 * statistics.median(one.seconds for one in found)
    largest = f"{max(maps):.1e}" if maps else "-"
    return [name, f"{scores:.1e}", largest, f"{verdicts} of {len(pairs)}", milliseconds]


class Looking(nn.Module):
    """Takes the place of a network, to see what it is given."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.image_size, self.score_window = detector.spec.size, 1
        self.model = detector.model
        self.images = torch.zeros(0)

    def forward(self, images: torch.Tensor) -> Any:
        """Keeps the images."""
        self.images = images
        raise StopIteration


def pixel_rows(detector: Detector, paths: Sequence[Path]) -> list[list[Any]]:
    """How far resized pixels, 0 to 255, are from Pillow's: the graph's own way, and `Resize`."""
    size = detector.spec.size
    largest = {"matrices": 0.0, "Resize": 0.0}
    unequal, total = dict.fromkeys(largest, 0), 0
    for path in paths:
        image = photograph(path, detector.spec.mode)
        if image.width != image.height:
            continue
        pillow = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).astype(float)
        batch = torch.from_numpy(as_batch(image).copy())
        looking: Any = Looking(detector)
        try:
            Photographs(looking, None)(batch)
        except StopIteration:
            ours = (255 * looking.images[0]).permute(1, 2, 0).numpy().round()
        once = interpolate(
            batch.permute(0, 3, 1, 2).float(), (size, size), mode="bicubic", antialias=True
        )
        found = {"matrices": ours, "Resize": once[0].permute(1, 2, 0).numpy().round().clip(0, 255)}
        for name, pixels in found.items():
            difference = np.abs(pixels.reshape(pillow.shape) - pillow)
            largest[name] = max(largest[name], float(difference.max()))
            unequal[name] += int((difference > 0).sum())
        total += pillow.size
    return [[name, largest[name], 100 * unequal[name] / max(total, 1)] for name in largest]


@torch.no_grad()
def main() -> None:
    """Prints two tables, and writes `deployment.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--most", type=int, help="number of photographs (default: all)")
    parser.add_argument("--program", type=Path, help="docs/deploy.cpp, compiled")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe.load(options.recipe)
    root = data_root(recipe, options.data)
    tests = list_test_images(recipe, root, options.category)
    step = max(1, len(tests) // (options.most or len(tests)))
    paths = [test.path for test in tests[::step]]
    detector = Detector.from_pretrained(options.model, device="cpu", precision="fp32")
    threshold = detector.threshold
    original = all_of(by_detector(detector), paths)
    rows = [row(LIMIT, original, original, threshold)]
    with tempfile.TemporaryDirectory() as folder:
        for form, open_run in RUNS.items():
            for preprocessing in (False, True):
                name = f"{form}{', preprocessing inside' if preprocessing else ''}"
                path = Path(folder, f"model-{preprocessing}{FORMATS[form].suffix}")
                export_realnet(options.model, path, form, preprocessing=preprocessing)
                run = open_run(path, options.threads)
                find = by_export(run, detector, preprocessing=preprocessing)
                rows.append(row(name, all_of(find, paths), original, threshold))
        if options.program:
            model = Path(folder, "model-True.xml")
            found = by_program(options.program.resolve(), model, paths)
            rows.append(row("C++, OpenVINO", found, original, threshold))
    with serving(options.model, options.threads) as find:
        rows.append(row("server", all_of(find, paths), original, threshold))
    columns = ["", "scores", "maps", "verdicts", "milliseconds"]
    rule = recipe_of(options.model).data.non_square
    show(f"{len(paths)} photographs, {options.threads} threads, rule {rule}", columns, rows)
    pixels = pixel_rows(detector, paths)
    heads = ["resized by", "largest difference", "unequal pixels in %"]
    show("Square photographs, beside Pillow's bicubic", heads, pixels)
    content = {"columns": columns, "rows": rows, "pixels": pixels}
    save("deployment", torch.device("cpu"), LIMIT, {"photographs": len(paths)} | content)


if __name__ == "__main__":
    main()
