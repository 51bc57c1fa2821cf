"""A line scan is scored in little memory, however large it is."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from tests.processes import apart
from tests.small_networks import save_detector

# Bytes beside the detector, in GiB.
LIMIT = 1.0


def held() -> float:
    """Memory of this process in GiB, without what is mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line for line in lines if line.startswith("RssAnon")).split()[1]
    return int(kilobytes) / 2**20


def gigabytes_for(model: Path, path: Path) -> float:
    """The most memory that a prediction and its pictures take, beside the detector."""
    from sia_gen import Detector
    from sia_gen.evaluation.saving import Scored, add_files
    from sia_gen.io.files import FileGroups

    detector = Detector.from_pretrained(model, device="cpu", precision="fp32")
    before, highest, done = held(), [0.0], Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest[0] = max(highest[0], held())

    watcher = Thread(target=watch)
    watcher.start()
    found = detector.predict(path)
    with FileGroups() as files:
        names = ("heatmaps", "masks", "npy", "page")
        add_files(files, path.parent, names, "scan.png", Scored(path, None, found))
    done.set()
    watcher.join()
    assert found.model_map.shape == (8192, 16384)
    return highest[0] - before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
@pytest.mark.parametrize("extension", ["tif", "png"])
def test_memory_does_not_grow_with_the_photograph(
    small: Recipe, tmp_path: Path, extension: str
) -> None:
    save_detector(tmp_path / "model", architecture="retrieval", memory_size=20, rrs="all")
    recipe = small.override({"data.tile": {"size": 512, "overlap": 128, "scale": 1.0}})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    pixels = np.random.default_rng(0).integers(90, 150, (8192, 16384), np.uint8)
    options = {"compress_level": 1} if extension == "png" else {}
    Image.fromarray(pixels).save(tmp_path / f"scan.{extension}", **options)
    taken = apart(gigabytes_for, tmp_path / "model", tmp_path / f"scan.{extension}")
    assert 0 < taken < LIMIT
