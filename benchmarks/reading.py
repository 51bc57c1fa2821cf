"""Loaders and shards: samples per second of one core, and MB/s against plain tar.

    OMP_NUM_THREADS=1 python benchmarks/reading.py --samples 500 --image-size 256

A corpus of noise images, which compress as badly as any, is written and read back by one process:
with Python's `tarfile` alone, which is the limit, and as sia-gen does. Encoding and decoding of PNG
stand beside them. Then the loaders of the two trainings.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import in_turns, median, save, show
from PIL import Image

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies
from sia_gen.anomalies.sources import Piece
from sia_gen.corpus.parsing import ShardParser
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import SampleForm, SampleMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample, write_shard
from sia_gen.diffusion.dataset import NoiseBatches
from sia_gen.train.batches import BatchOrder

LIMIT = "Python's tarfile on the same bytes"


def make_samples(count: int, size: int) -> list[tuple[SampleMetadata, Image.Image]]:
    """Samples of smooth noise."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 4, size // 4, 3), np.uint8))
        names = (f"parts_disc_{index:08d}", "parts", "disc", index, 0.1, index, 20)
        rest = ("PerturbedDDPMScheduler", 0.0, "0" * 64, size, size, "0.1.0")
        samples.append((SampleMetadata(*names, *rest), coarse.resize((size, size))))
    return samples


def plain_tar(path: Path, samples: Sequence[EncodedSample]) -> None:
    """Writes members with nothing but tarfile."""
    with tarfile.open(path, "w") as file:
        for sample in samples:
            for name, content in sample.items():
                if isinstance(content, bytes):
                    member = tarfile.TarInfo(f"{sample['__key__']}.{name}")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))


def read_plain(path: Path) -> None:
    """Reads all members with nothing but tarfile."""
    with tarfile.open(path) as file:
        for member in file:
            found = file.extractfile(member)
            assert found is not None
            found.read()


class Same:
    """A source that always gives the same piece: only the pasting is measured."""

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self.pixels = pixels

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """The piece."""
        return Piece(self.pixels, (0.5, 1.0))


def loaders(size: int, batches: int, batch_size: int) -> dict[str, Callable[[], Any]]:
    """Goes through some batches of each training's loader."""
    images = np.random.default_rng(0).integers(0, 256, (32, 3, size, size), np.uint8)
    order = BatchOrder(0, len(images), batch_size)
    noise = NoiseBatches(
        images, np.zeros(32, int), order, 1000, horizontal_flip=True, vertical_flip=True
    )
    anomalies = AnomalyBatches(LocalAnomalies(images, [Same(images[0])], 0.5), order)
    return {
        "images with noise, for the diffusion model": lambda: every(noise, batches),
        "anomalies, for RealNet": lambda: every(anomalies, batches),
    }


def every(batches: Any, count: int) -> None:
    """Takes the first batches."""
    for number in range(count):
        batches[number]


def main() -> None:
    """Prints two tables, and writes `reading.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = make_samples(options.samples, options.image_size)
    encoded = [encode_sample(metadata, {"png": image}) for metadata, image in samples]
    count, batch_size = options.samples, 16
    path = "data/parts/disc/train-00000-of-00001.tar"
    shard = ShardRecord(
        path=path,
        dataset="parts",
        category="disc",
        first=0,
        samples=count,
        strength="0.1",
        bytes=0,
        sha256="0" * 64,
        model="0" * 64,
    )
    ours_parser = ShardParser(shard, SampleForm("samples", "png", "RGB", options.image_size))
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder, "ours.tar"), Path(folder, "plain.tar")

        def raw() -> Iterator[Any]:
            with ours.open("rb") as file:
                yield from ours_parser.samples(file)

        runs: dict[str, Callable[[], Any]] = {
            "write: plain tar": lambda: plain_tar(plain, encoded),
            "write: shard, synced, with its checksum": lambda: write_shard(ours, encoded),
            "encode PNG": lambda: [
                encode_sample(metadata, {"png": image}) for metadata, image in samples
            ],
            "read: plain tar": lambda: read_plain(plain),
            "read: shard, raw": lambda: list(raw()),
            "read: shard, decoded": lambda: [ours_parser.decode(one) for one in raw()],
        }
        rounds = in_turns(runs, options.rounds)
        megabytes = ours.stat().st_size / 1e6
    rows = [[name, count / median(rounds, name), megabytes / median(rounds, name)] for name in runs]
    title = f"{count} samples of {options.image_size} pixels, {megabytes:.0f} MB, one core"
    show(title, ["", "samples/s", "MB/s"], rows)
    loading = loaders(options.image_size, 4, batch_size)
    taken = in_turns(loading, options.rounds)
    rates = [[name, 4 * batch_size / median(taken, name)] for name in loading]
    show("Loaders, one core", ["", "samples/s"], rates)
    save("reading", "cpu", LIMIT, vars(options) | {"shards": rows, "loaders": rates})


if __name__ == "__main__":
    main()
