"""Models that nothing has fitted, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.runtime.device import Runtime
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")
THRESHOLD = 0.5


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """Unfitted models; what counts here is that their scores are counted rightly."""
    folder = tmp_path_factory.mktemp("realnet")
    for seed, category in enumerate(["disc", "plate"]):
        save_detector(folder / category, seed, threshold=THRESHOLD)
        (folder / category / "recipe.yaml").write_text(small.to_yaml())
    return folder


Evaluate = Callable[..., tuple[dict[str, dict[str, dict[str, float]]], Path]]


@pytest.fixture
def run(models: Path, tmp_path: Path, photographs: Path, recipe: Recipe) -> Evaluate:
    def call(chosen: Recipe = recipe, root: Path = photographs) -> tuple[object, Path]:
        out = tmp_path / "out"
        return evaluate(chosen, chosen.categories, root, models, out, CPU), out

    return call
