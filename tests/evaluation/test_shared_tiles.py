"""Several processes share the tiles of a large photograph."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sia_gen import Detector
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


def predictions(models: Path, photographs: Path, processes: int) -> dict[str, Any]:
    """What some processes predict: lines and maps."""
    folder, out = models.parent, f"predictions-{processes}"
    images = [str(photographs / "disc/test"), str(models.parent / "broken.png")]
    command = ["predict", "models/disc", *images, "--save", "npy,boxes", "--out", out]
    command += ["--device", "cpu"]
    running = ranks(processes, command, folder, f"output-{processes}", condition=large_photographs)
    ended = [one.end() for one in running]
    assert {one.code for one in ended} == {2}, ended
    assert "1 of 9 images were not scored" in ended[0].text
    found: dict[str, Any] = {
        path.relative_to(folder / out).as_posix(): path.read_bytes()
        for path in (folder / out).rglob("*.npy")
    }
    return found | {name: (folder / out / name).read_text() for name in ("predictions.csv",)}


def test_predictions_are_those_of_one_process(models: Path, photographs: Path) -> None:
    picture = (photographs / "disc/test/good/000.png").read_bytes()
    (models.parent / "broken.png").write_bytes(picture[:-200])
    alone, together = (predictions(models, photographs, count) for count in (1, 2))
    assert len(alone) == 9
    assert together == alone


def test_photographs_that_move_while_processes_read_them(
    models: Path, photographs: Path, tmp_path: Path
) -> None:
    """None waits for another, nor takes the maps of another photograph for those of this one."""
    pictures = sorted((photographs / "disc/test").rglob("*.png"))[:4]
    for folder in ("here", "elsewhere/here"):
        (tmp_path / folder).mkdir(parents=True)
        for name, picture in zip("abcd", pictures, strict=True):
            shutil.copy(picture, tmp_path / folder / f"{name}.png")
    (tmp_path / "elsewhere/here/b.png").unlink()
    Image.new("L", (32, 32), 7).save(tmp_path / "elsewhere/here/c.png")
    command = ["predict", str(models / "disc"), "here", "--device", "cpu", "--save", "none"]
    command += ["--out", str(tmp_path / "out")]
    running = ranks(2, command, tmp_path, "output", condition=photographs_elsewhere)
    ended = [one.end() for one in running]
    assert [one.code for one in ended] == [2, 2], ended
    assert "2 of 4 images were not scored; the first: the processes do not read" in ended[0].text
    alone = Detector.from_pretrained(models / "disc", device="cpu")
    with (tmp_path / "out/predictions.csv").open() as file:
        found = {row["image"][-5]: row["score"] for row in csv.DictReader(file)}
    assert [found[name] for name in "bc"] == ["", ""]
    for name in "ad":
        expected = alone.predict(tmp_path / f"here/{name}.png").score
        assert float(found[name]) == pytest.approx(expected, abs=1e-5)


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
