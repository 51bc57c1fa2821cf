"""Corpora of twins, made in seconds."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe, choose_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.twins import masks
from sia_gen.twins.maker import TwinMaker
from tests.corpus.conftest import RUNTIME, HandmadeCorpus, save_model

MakeTwins = Callable[..., tuple[Path, TwinMaker]]
SIDE = 16
# Four tiles of a photograph of 32 x 32, in the size of the model.
TILED: dict[str, Any] = {
    "data.tile.size": SIDE,
    "synthesis.strength": "3",
    "synthesis.steps": 6,
    "realnet.image_size": 32,
    "realnet.anomalies": "twins",
    "realnet.mask_area": [1e-6, 0.999],
}


@pytest.fixture
def anything_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that untrained networks make masks."""
    for limits in ("of", "within"):
        monkeypatch.setattr(masks.ChanceLimits, limits, lambda _: masks.ChanceLimits(0.0, 0.0))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of each category, of 16 pixels."""
    folder = tmp_path_factory.mktemp("models")
    for seed, category in enumerate(("disc", "plate")):
        save_model(folder / category, seed, size=16)
    return folder


@pytest.fixture
def make_twins(
    recipe: Recipe,
    models: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> MakeTwins:
    """Makes a corpus of twins: `make_twins(name, twins, changes, categories=, shards=, data=)`."""
    monkeypatch.setattr(masks, "IMAGES", 6)

    def run(
        name: str = "twins",
        twins: dict[str, Any] | None = None,
        changes: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[Path, TwinMaker]:
        changed = recipe.override({"synthesis.twins": twins or {}, **(changes or {})})
        wanted = choose_categories(changed, options.pop("categories", None))
        maker = TwinMaker(changed, wanted, options.pop("data", photographs))
        synthesize(changed, wanted, models, tmp_path / name, RUNTIME, maker=maker, **options)
        return tmp_path / name, maker

    return run


def read(corpus: Path) -> dict[str, dict[str, Any]]:
    """All samples of a corpus by key: pixels and metadata by extension."""
    found: dict[str, dict[str, Any]] = {}
    for shard in sorted(corpus.glob("data/**/*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                content = tar.extractfile(member).read()
                found.setdefault(key, {})[extension] = (
                    json.loads(content)
                    if extension == "json"
                    else np.asarray(Image.open(BytesIO(content)))
                )
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> HandmadeCorpus:
    """A corpus of samples that have no twins."""
    return HandmadeCorpus(tmp_path / "corpus")
