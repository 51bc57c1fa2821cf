"""The next command that a step prints runs as printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from sia_gen.config.recipe import Recipe
from tests.corpus.conftest import HandmadeCorpus, save_model

if TYPE_CHECKING:
    from tests.cli.conftest import Result, Run

CPU = ["--device", "cpu", "--precision", "fp32"]
FEW = ["--images", "1", "--out", "corpus"]


@pytest.fixture
def parts(parts: Path) -> Path:
    content = yaml.safe_load(parts.read_text())
    for section in ("diffusion", "classifier", "realnet"):
        content[section] |= {"max_steps": 1}
    content["classifier"] |= {"batch_size": 2}
    parts.write_text(yaml.safe_dump(content))
    return parts


def run_next(run: Run, done: Result, *options: str) -> list[str]:
    """Runs the printed next command with more options; returns its words as printed."""
    assert done.code == 0, done
    words = shlex.split(done.out.partition("Next: sia-gen ")[2])
    result = run(*words, *options, *CPU)
    assert result.code == 0, result
    return words


def test_next_of_a_diffusion_model_is_a_corpus_of_it(run: Run, parts: Path, images: Path) -> None:
    options = ["--data", images, "--category", "disc", "--out", "my models", *CPU]
    done = run("train-diffusion", "--recipe", parts, *options)
    words = run_next(run, done, *FEW)
    assert words[3:] == ["--category", "disc", "--model", "my models"]


def test_next_of_a_classifier_is_a_corpus_that_it_guides(
    run: Run, parts: Path, images: Path, tmp_path: Path
) -> None:
    for category in ("disc", "plate"):
        save_model(tmp_path / "runs/parts/diffusion" / category, seed=0, size=32)
    done = run("train-classifier", "--recipe", parts, "--data", images, "--out", "guide", *CPU)
    assert run_next(run, done, *FEW)[5:] == ["--classifier", "guide/model"]


def test_next_of_a_detector_is_its_evaluation(
    run: Run, parts: Path, images: Path, tmp_path: Path, recipe: Recipe
) -> None:
    HandmadeCorpus(tmp_path / "runs/parts/corpus")
    options = ["--data", images, "--category", "disc", "--out", "fitted", *CPU]
    done = run("fit-realnet", "--recipe", parts, *options)
    words = run_next(run, done)
    assert words[3:] == [
        "--category",
        "disc",
        "--data",
        str(images),
        "--model",
        "fitted",
        "--out",
        "fitted-evaluation",
    ]


def test_next_has_only_what_it_needs(run: Run, parts: Path, images: Path) -> None:
    done = run("train-diffusion", "--recipe", parts, "--data", images, *CPU)
    assert run_next(run, done, *FEW) == ["synthesize", "--recipe", str(parts)]


def test_next_of_a_calibration_is_a_corpus_of_its_strengths(
    run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"disc": "0.1:0.2"}
    monkeypatch.setattr("sia_gen.inspection.calibrate.calibrate", lambda *_, **__: measured)
    options = ["--category", "disc", "--model", "models", "--data", ".", "--out", "found"]
    options += ["--classifier", "guide"]
    done = run("calibrate", "--recipe", parts, *options)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == (
        "Next: sia-gen synthesize --strength auto --recipe found/recipe.yaml --category disc "
        "--model models --classifier guide --out runs/parts/calibrated"
    )
