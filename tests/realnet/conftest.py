"""What the tests of RealNet share: a corpus, a fit, and what it is fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Parts, open_sources
from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_images
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.preparation import fit_data, load_normal
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import HandmadeCorpus

CPU = Runtime("fp32", "cpu")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return HandmadeCorpus(folder / "corpus", categories=("disc", "plate")).folder


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, photographs: Path, small: Recipe
) -> Path:
    """A fit that nothing interrupted, to read only."""
    out = tmp_path_factory.mktemp("fitted") / "whole"
    fit_realnet(small, ["disc"], photographs, corpus, out, CPU)
    return out


def data_of(recipe: Recipe, photographs: Path, corpus: Path) -> Parts[LocalAnomalies]:
    """What a model of category `disc` is fitted to."""
    normal = load_normal(recipe, {"disc": list_images(recipe, photographs, "disc")})
    return fit_data(recipe, normal, [open_sources(recipe, "disc", corpus)])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of noise, 100 x 160 pixels, with small scratches and their masks."""
    root = tmp_path_factory.mktemp("wide")
    for folder, first, count in (("train/good", 0, 6), ("test/good", 50, 2), ("test/cut", 60, 2)):
        (root / folder).mkdir(parents=True)
        (root / "masks").mkdir(exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng(first + number)
            image = rng.normal(120, 8, (100, 160)).clip(0, 255).astype(np.uint8)
            if folder == "test/cut":
                image[50:54, 20:60] = 0
                Image.fromarray(np.uint8(image == 0) * 255).save(root / f"masks/{number:03d}.png")
            Image.fromarray(image).save(root / folder / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def tiled(small: Recipe, wide: Path) -> Recipe:
    return small.override(
        {
            "categories": ["wide"],
            "data.images": {
                "layout": "folder",
                "normal": "train/good/*",
                "test_normal": "test/good/*",
                "test_anomalous": "test/*/*",
                "mask": "masks/{stem}.png",
            },
            "data.tile": {"size": 64, "scale": 1.0},
            "realnet.source": "dtd",
            "realnet.textures": str(wide / "train"),
            "realnet.max_steps": 2,
            "realnet.memory_size": 50,
        }
    )
