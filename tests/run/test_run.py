"""All steps in one command, on images so small that it ends in seconds."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import preview
from sia_gen.errors import UserError
from sia_gen.io.files import shipped
from sia_gen.run import speed
from sia_gen.run.page import STRENGTHS
from sia_gen.run.run import plan_run, run
from sia_gen.run.times import Spent, keep_planned, read_times, timed
from sia_gen.runtime.device import Runtime

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def small_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe of one category, whose corpus has no twins; what it takes is timed once."""
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    monkeypatch.setattr(speed, "TURNS", 1)
    return recipe.override({"categories": ["disc"]})


def go(recipe: Recipe, root: Path, out: Path, *, resume: bool = True) -> dict[str, Any]:
    """Runs all steps as the recipe says."""
    plan = plan_run(recipe, ["disc"], root, CPU, minutes=None)
    return run(plan, ["disc"], root, out, CPU, resume=resume)


def titles(out: Path) -> list[str]:
    page = (out / "index.html").read_text()
    return [part.partition("</h2>")[0] for part in page.split("<h2>")[1:]]


def test_run_ends_in_numbers_and_a_page_and_goes_on_where_it_was(
    small_run: Recipe, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    metrics = go(small_run, photographs, out)["mean"]
    auroc = f"{metrics['image_auroc']:.3f}"
    assert f"image AUROC {auroc} on real defects" in capsys.readouterr().out
    assert titles(out) == [
        "Good parts",
        "Synthetic parts by strength",
        "Real defects",
        "How well it works",
        "Time",
        "Go on",
    ]
    page = (out / "index.html").read_text()
    assert all(f"strength {strength:g}<" in page for strength in STRENGTHS)
    assert auroc in page
    # F1 is 2 hits / (hits + false alarms + defects).
    f1, alarms = metrics["image_f1_at_threshold"], 4 * metrics["false_alarm_rate"]
    hits = f1 * (alarms + 4) / (2 - f1)
    assert f"finds {hits:.0f} of 4 real defects, and calls {alarms:.0f} of 4 good parts" in page
    assert Recipe.load(out / "recipe.yaml") == small_run
    times = json.loads((out / "times.json").read_text())
    assert [*times] == ["train-diffusion", "synthesize", "fit-realnet", "evaluate"]
    assert all(one["planned"] > 0 and one["seconds"] > 0 for one in times.values())

    weights = out / "diffusion/disc/unet/diffusion_pytorch_model.safetensors"
    shards = sorted((out / "corpus").glob("data/**/*.tar"))
    before = [path.stat().st_mtime_ns for path in (weights, *shards)]
    go(small_run, photographs, out)
    assert [path.stat().st_mtime_ns for path in (weights, *shards)] == before
    assert "[4/4] evaluate" in capsys.readouterr().err
    again = json.loads((out / "times.json").read_text())
    assert all(again[name]["seconds"] == one["seconds"] for name, one in times.items())


@pytest.mark.slow
def test_twins_are_shown_and_learnt_from(
    small_run: Recipe, photographs: Path, tmp_path: Path
) -> None:
    twins = {"source": "image", "region": "natural", "edit": ["swap"]}
    changes = {
        "synthesis.twins": twins,
        "synthesis.strength": "0.5:2",
        "synthesis.images": 6,
    }
    go(small_run.override(changes), photographs, tmp_path / "run")
    assert "Defects that never were" in titles(tmp_path / "run")
    assert "swap, white " in (tmp_path / "run/index.html").read_text()


def test_good_images_alone_are_enough(small_run: Recipe, photographs: Path, tmp_path: Path) -> None:
    good = shutil.copytree(photographs / "disc/train/good", tmp_path / "photos")
    recipe = small_run.override({"data.images": {"layout": "folder", "normal": "*"}})
    assert go(recipe, good, tmp_path / "run") == {}
    assert "Good parts that were held back" in titles(tmp_path / "run")


def test_time_of_a_step_is_that_of_its_interrupted_runs_and_the_one_that_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = iter(range(0, 100, 10)), tmp_path / "times.json"
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), timed("verify", path):
            raise KeyboardInterrupt
    assert read_times(path) == {"verify": Spent(seconds=20)}
    for _ in range(2):
        with timed("verify", path):
            pass
        assert read_times(path) == {"verify": Spent(seconds=30, done=True)}
    keep_planned(path, {"verify": 25, "inspect": 4})
    assert read_times(path) == {
        "verify": Spent(seconds=30, done=True, planned=25),
        "inspect": Spent(planned=4),
    }


@pytest.mark.slow
def test_run_without_resuming_begins_its_times_anew(
    small_run: Recipe, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError(problem="It goes no further.", fix="It need not.")

    monkeypatch.setattr("sia_gen.run.run.train_diffusion", refuse)
    for name in ("evaluate", "train-diffusion"):
        with timed(name, tmp_path / "times.json"):
            time.sleep(0.01)

    def spent() -> dict[str, float]:
        times = read_times(tmp_path / "times.json")
        return {name: one.seconds for name, one in times.items() if one.seconds}

    before = spent()
    with pytest.raises(UserError):
        go(small_run, photographs, tmp_path)
    assert spent() == before
    with pytest.raises(UserError):
        go(small_run, photographs, tmp_path, resume=False)
    assert spent().keys() == {"train-diffusion"}


@pytest.mark.parametrize("content", ["", "[]", '{"verify": 3.0}', '{"verify": {"seconds": "x"}}'])
def test_damaged_times_are_no_loss(tmp_path: Path, content: str) -> None:
    (tmp_path / "times.json").write_text(content)
    assert read_times(tmp_path / "times.json") == {}


def test_what_stands_at_the_top_of_the_repository_is_found() -> None:
    assert shipped("recipes").exists()
