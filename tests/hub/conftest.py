"""Corpora and models to publish, and names to publish them under."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.card import write_card
from sia_gen.diffusion.readiness import Readiness
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from tests.conftest import recipe_content
from tests.corpus.conftest import HandmadeCorpus, save_model

NUMBERS = itertools.count()


def new_name() -> str:
    """A repository of Ada's that nobody has asked for yet."""
    return f"ada/parts-{next(NUMBERS)}"


@pytest.fixture
def name() -> str:
    return new_name()


MakeCorpus = Callable[..., HandmadeCorpus]


@pytest.fixture
def make_corpus(tmp_path: Path, recipe: Recipe) -> MakeCorpus:
    """Makes a corpus as `synthesize` leaves it: `make_corpus(folder, categories, image_format)`."""

    def make(
        folder: str = "corpus",
        categories: tuple[str, ...] = ("disc", "plate"),
        image_format: str = "png",
    ) -> HandmadeCorpus:
        corpus = HandmadeCorpus(tmp_path / folder, categories, image_format)
        own = recipe.override({"categories": list(categories)})
        (corpus.folder / "recipe.yaml").write_text(own.to_yaml())
        write_card(corpus.folder, own, corpus.manifest)
        return corpus

    return make


@pytest.fixture
def corpus(make_corpus: MakeCorpus) -> HandmadeCorpus:
    """Two categories of five samples."""
    return make_corpus()


@pytest.fixture
def pipeline_folder(tmp_path: Path) -> Path:
    """An SDAS pipeline with what training leaves beside it."""
    folder = tmp_path / "disc"
    save_model(folder, seed=0, size=32)
    content = recipe_content() | {"name": "parts"}
    (folder / "recipe.yaml").write_text(Recipe.parse(content, where="conftest").to_yaml())
    readiness = Readiness(0.03, 0.02, 0.1, 0.4, 0.1, 0.1, 8)
    report = {
        "steps": 4,
        "categories": ["disc"],
        "images": 9,
        "seed": 0,
        "readiness": readiness.to_json(),
        "versions": {"torch": "2.15.0"},
    }
    (folder / "training.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> Path:
    """A RealNet that was fitted for a few steps."""
    folder = tmp_path_factory.mktemp("fitted")
    HandmadeCorpus(folder / "corpus")
    out = folder / "realnet"
    fit_realnet(small, ["disc"], photographs, folder / "corpus", out, Runtime("fp32", "cpu"))
    return out / "disc"


@pytest.fixture
def realnet_folder(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it, to publish."""
    return shutil.copytree(fitted, tmp_path / "realnet")
