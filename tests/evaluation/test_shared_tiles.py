"""Several processes share the tiles of a large photograph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from tests.conditions import large_photographs
from tests.processes import ranks
from tests.small_networks import save_detector


@pytest.fixture
def models(small: Recipe, photographs: Path, tmp_path: Path) -> Path:
    """A detector of tiles of which a photograph has 25: two batches."""
    recipe = small.override({"data.tile": {"size": 8, "overlap": 2, "scale": 1.0}})
    save_detector(tmp_path / "models/disc")
    for folder in (tmp_path, tmp_path / "models/disc"):
        (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return tmp_path / "models"


def evaluation(models: Path, photographs: Path, processes: int) -> dict[str, bytes]:
    """What an evaluation by some processes writes, without times and paths."""
    folder, out = models.parent, f"out-{processes}"
    command = ["evaluate", "--recipe", "recipe.yaml", "--category", "disc", "--device", "cpu"]
    command += ["--data", str(photographs), "--model", "models", "--out", out]
    running = ranks(processes, command, folder, f"told-{processes}", condition=large_photographs)
    for one in running:
        one.done()
    names = (
        "metrics.json",
        "disc/scores.csv",
        *(path.relative_to(folder / out).as_posix() for path in (folder / out).rglob("*.webp")),
    )
    return {name: (folder / out / name).read_bytes() for name in names}


def test_results_are_those_of_one_process(models: Path, photographs: Path) -> None:
    alone, together = (evaluation(models, photographs, count) for count in (1, 2))
    assert len(alone) == 10
    assert together == alone
    assert json.loads(alone["metrics.json"])["categories"]["disc"]["anomalous_images"] == 4


def test_a_damaged_photograph_ends_all_processes(
    models: Path, photographs: Path, tmp_path: Path
) -> None:
    shutil.copytree(photographs, tmp_path / "damaged")
    path = min((tmp_path / "damaged/disc/test/scratch").iterdir())
    path.write_bytes(path.read_bytes()[:-300])
    command = ["evaluate", "--recipe", "recipe.yaml", "--category", "disc", "--device", "cpu"]
    command += ["--data", "damaged", "--model", "models", "--out", "out"]
    running = ranks(2, command, tmp_path, "told", condition=large_photographs)
    told = [one.end() for one in running]
    assert [one.code for one in told] == [2, 2], told
    problem = f"cannot read the image damaged/disc/test/scratch/{path.name}"
    assert any(problem in one.text for one in told), told
