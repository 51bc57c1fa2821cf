"""The whole way on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import preview

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

QUICK = ["--device", "cpu", "--precision", "fp32"]


def shown(folder: Path) -> list[str]:
    return sorted(path.as_posix() for path in folder.rglob("*"))


def test_plan_says_what_is_there_and_writes_nothing(
    run: Run, parts: Path, images: Path, tmp_path: Path
) -> None:
    before = shown(tmp_path)
    done = run("run", "--recipe", parts, "--data", "images", "--category", "disc", "--plan", *QUICK)
    assert done.code == 0, done
    assert "good images to learn from" in done.out
    assert "train-diffusion: network" in done.out
    done = run("run", "--recipe", parts, "--data", "images", "--category", "disc", "--json", *QUICK)
    content = json.loads(done.out)
    assert {
        "fit",
        "validation",
        "test_normal",
        "test_anomalous",
        "masks",
        "passed_over",
    } <= content["found"].keys()
    assert all(isinstance(content["found"][name], int) for name in ("fit", "masks", "passed_over"))
    assert content["minutes"] is None
    assert shown(tmp_path) == before


@pytest.mark.slow
def test_run_goes_on_with_its_own_recipe(
    run: Run, parts: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    command = [
        "run",
        "--recipe",
        parts,
        "--data",
        "images",
        "--category",
        "disc",
        "--out",
        "out",
        *QUICK,
    ]
    first = run(*command)
    assert first.code == 0, first
    assert "Open out/index.html" in first.out
    kept = Recipe.load(tmp_path / "out/recipe.yaml")
    # A recipe that has changed since does not change what has begun.
    content = yaml.safe_load(parts.read_text())
    content["diffusion"]["max_steps"] += 4
    parts.write_text(yaml.safe_dump(content))
    second = run(*command)
    assert second.code == 0, second
    assert "going on with the run in out" in second.out
    assert Recipe.load(tmp_path / "out/recipe.yaml") == kept
    third = run(*command, "--seed", "7")
    assert third.code == 2
    assert "the run in out has begun with another seed" in third.err


@pytest.mark.parametrize("minutes", ["0.1", "nan", "inf", "-3"])
def test_minutes_that_are_no_time_are_one_line(
    refuse: Refuse, parts: Path, images: Path, minutes: str
) -> None:
    line = refuse("run", "--recipe", parts, "--data", "images", "--minutes", minutes, *QUICK)
    assert "minutes" in line


def test_output_among_the_photographs_themselves_is_one_line(
    refuse: Refuse, parts: Path, images: Path
) -> None:
    options = ["--recipe", parts, "--data", "images", "--out", "./images/", *QUICK]
    assert "images is the folder of the photographs" in refuse("run", *options)


def test_output_of_another_run_is_one_line(
    refuse: Refuse, parts: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/recipe.yaml").write_text(Recipe.load(str(parts)).to_yaml())
    line = refuse("run", "--data", "images/disc", "--out", "out", *QUICK)
    assert (
        "out has the run of 'parts', not of 'disc'. Give its --recipe or --data, another --out"
        in line
    )


def test_missing_weights_are_noticed_first(refuse: Refuse, parts: Path, images: Path) -> None:
    line = refuse("run", "--recipe", parts, "--data", "images", "--weights", "nowhere.pth", *QUICK)
    assert "there is no file of backbone weights nowhere.pth" in line
