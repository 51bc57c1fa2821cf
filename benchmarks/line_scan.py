"""Time and memory of a line scan that is scored tile by tile.

    python benchmarks/line_scan.py runs/boards/realnet/boards

The photograph is grey noise in a file of any format. Memory is what the process holds beside the
detector, at most, while `Detector.predict` runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
from measuring import save, show
from PIL import Image

from sia_gen import Detector

LIMIT = "2 GiB beside the detector"


def held() -> float:
    """Memory of this process in GiB, without what is mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line for line in lines if line.startswith("RssAnon")).split()[1]
    return int(kilobytes) / 2**20


def measure(detector: Detector, path: Path) -> tuple[float, float]:
    """Seconds that a photograph takes, and the GiB that it takes beside the detector."""
    before, highest, done = held(), [0.0], Event()

    def watch() -> None:
        while not done.wait(0.05):
            highest[0] = max(highest[0], held())

    watcher = Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    detector.predict(path)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return seconds, highest[0] - before


def main() -> None:
    """Prints a table, and writes `line_scan.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--width", type=int, default=16_384)
    parser.add_argument("--height", type=int, default=8_192)
    parser.add_argument("--format", default="tif", help="png, tif, bmp, pgm or jp2, for example")
    options = parser.parse_args()
    shape, rng = (options.height, options.width), np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"scan.{options.format}"
        Image.fromarray(rng.integers(90, 150, shape, np.uint8)).save(path)
        seconds, memory = measure(Detector.from_pretrained(options.detector), path)
    megapixels = options.width * options.height / 1e6
    rows = [[f"{megapixels:.0f}", f"{memory:.2f}", f"{seconds / megapixels:.2f}"]]
    show("a line scan", ["megapixels", "GiB", "seconds per megapixel"], rows)
    save("line_scan", "cpu", LIMIT, vars(options) | {"rows": rows})


if __name__ == "__main__":
    main()
