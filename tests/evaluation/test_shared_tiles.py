"""Several processes share the tiles of a large photograph."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from tests.conditions import large_photographs, photographs_elsewhere
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
    running = ranks(processes, command, folder, f"output-{processes}", condition=large_photographs)
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


def predictions(models: Path, processes: int, missing: int) -> dict[str, Any]:
    """The scores and maps that some processes predict; so many images cannot be scored."""
    folder, out = models.parent, f"predictions-{processes}"
    command = ["predict", str(models / "disc"), "photos", "--save", "npy,boxes", "--device", "cpu"]
    command += ["--out", str(folder / out)]
    told = f"output-{processes}"
    running = ranks(processes, command, folder, told, condition=photographs_elsewhere)
    ended = [one.end() for one in running]
    assert {one.code for one in ended} == {2}, ended
    assert f"{missing} of 11 images were not scored" in ended[0].text
    with (folder / out / "predictions.csv").open() as file:
        scores = {row["image"]: row["score"] for row in csv.DictReader(file)}
    maps = folder / out / "anomaly_maps"
    found = {path.relative_to(maps).as_posix(): path.read_bytes() for path in maps.rglob("*.npy")}
    return scores | found


def test_predictions_are_those_of_one_process(models: Path, photographs: Path) -> None:
    """Unless files are moved or replaced while they are read; the others have theirs even then."""
    here, elsewhere = (models.parent / name for name in ("photos", "elsewhere/photos"))
    shutil.copytree(photographs / "disc/test", here)
    picture = (here / "good/000.png").read_bytes()
    (here / "broken.png").write_bytes(picture[:-200])
    (here / "moved.png").write_bytes(picture)
    (here / "other.png").write_bytes(picture)
    shutil.copytree(here, elsewhere)
    (elsewhere / "moved.png").unlink()
    Image.new("L", (32, 32), 7).save(elsewhere / "other.png")
    alone, together = predictions(models, 1, missing=1), predictions(models, 2, missing=3)
    assert len(alone) == 11 + 10
    for name in ("moved", "other"):
        assert together[f"photos/{name}.png"] == ""
        del alone[f"{name}.npy"]
        alone[f"photos/{name}.png"] = ""
    assert together == alone


@pytest.mark.parametrize(
    ("tile", "options", "message"),
    [
        (None, [], "takes photographs as a whole"),
        ({"size": 8, "overlap": 2, "scale": 1.0}, ["--watch"], "--watch is for one process"),
    ],
)
def test_what_processes_cannot_share_is_refused(
    small: Recipe, models: Path, photographs: Path, tile: Any, options: list[str], message: str
) -> None:
    recipe = small if tile is None else small.override({"data.tile": tile})
    (models / "disc/recipe.yaml").write_text(recipe.to_yaml())
    command = ["predict", "models/disc", str(photographs / "disc/test"), "--device", "cpu"]
    ended = [one.end() for one in ranks(2, [*command, *options], models.parent, "output")]
    assert [one.code for one in ended] == [2, 2]
    assert any(message in one.text for one in ended)
    assert not (models.parent / "predictions").exists()


def test_a_damaged_photograph_ends_all_processes(
    models: Path, photographs: Path, tmp_path: Path
) -> None:
    shutil.copytree(photographs, tmp_path / "damaged")
    path = min((tmp_path / "damaged/disc/test/scratch").iterdir())
    path.write_bytes(path.read_bytes()[:-300])
    command = ["evaluate", "--recipe", "recipe.yaml", "--category", "disc", "--device", "cpu"]
    command += ["--data", "damaged", "--model", "models", "--out", "out"]
    running = ranks(2, command, tmp_path, "output", condition=large_photographs)
    ended = [one.end() for one in running]
    assert [one.code for one in ended] == [2, 2], ended
    problem = f"cannot read the image damaged/disc/test/scratch/{path.name}"
    assert any(problem in one.text for one in ended), ended
