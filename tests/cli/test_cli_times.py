"""Long commands say how long they take, and what takes less."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sia_gen.cli.app import COMMANDS, TAKES_LESS, app
from sia_gen.runtime import progress

if TYPE_CHECKING:
    from tests.cli.conftest import Run

QUICK = ["--device", "cpu", "--precision", "fp32"]


def announcements(text: str) -> list[str]:
    return [line for line in text.splitlines() if " takes about " in line]


@pytest.fixture
def everything_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has several steps is announced after the second."""
    monkeypatch.setattr(progress, "LONG", 0.0)
    monkeypatch.setattr(progress, "TIMED", 0.0)


@pytest.mark.usefixtures("everything_is_long")
def test_every_step_says_how_long_it_takes(run: Run, parts: Path, images: Path) -> None:
    category = ["--category", "disc"]
    given = ["--recipe", parts, "--data", "images", *category]
    steps = {
        "train-diffusion": ([*given, *QUICK], "disc: training the diffusion model", True),
        "synthesize": (["--recipe", parts, *category, *QUICK], "synthesizing", True),
        "compose": ([*given, "--out", "triplets"], "composing", True),
        "fit-realnet": ([*given, *QUICK], "disc: fitting RealNet", True),
        "evaluate": ([*given, *QUICK], "disc: evaluating", False),
        "predict": (["runs/parts/realnet/disc", "images", *QUICK], "predicting", False),
    }
    for command, (options, work, shorter) in steps.items():
        done = run(command, *options)
        assert done.code == 0, done
        said = [line for line in announcements(done.err) if line.startswith(work)]
        assert len(said) == 1, done.err
        assert said[0].startswith(f"{work} takes about "), said
        assert ("take less" in said[0]) is shorter, said


def test_short_commands_say_nothing(run: Run, parts: Path, images: Path) -> None:
    given = ["--recipe", parts, "--data", "images", "--category", "disc"]
    assert announcements(run("train-diffusion", *given, *QUICK).err) == []


def test_what_takes_less_are_options_of_existing_commands() -> None:
    names = {
        function.__name__.replace("_", "-"): function
        for functions in COMMANDS.values()
        for function in functions
    }
    assert app.registered_commands
    for command, text in TAKES_LESS.items():
        for option in (word for word in text.split() if word.startswith("--")):
            parameters = names[command].__annotations__
            assert option.removeprefix("--").replace("-", "_") in parameters, (command, option)


@pytest.mark.slow
def test_run_inside_the_folder_of_photographs_is_none_of_them(
    run: Run, parts: Path, images: Path, tmp_path: Path
) -> None:
    good = shutil.copytree(tmp_path / "images/disc/train/good", tmp_path / "own/good")
    out = tmp_path / "own/runs/own"
    options = ["--recipe", parts, "--data", "images", "--category", "disc", "--out", out]
    assert run("run", *options, *QUICK).code == 0
    shutil.copy(good / "000.png", out / "more.png")
    done = run("train-diffusion", "--data", "own", "--max-steps", "1", "--out", "d", *QUICK)
    assert done.code == 0, done
    assert "passed over: 1 output of sia-gen" in done.err
