from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run


def change(parts: Path, **settings: Any) -> None:
    """Replaces settings of the recipe in a file, e.g. `diffusion={"max_steps": 4}`."""
    content = yaml.safe_load(parts.read_text())
    for section, values in settings.items():
        content[section] = content[section] | values if isinstance(values, dict) else values
    parts.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("command", ["train-diffusion", "train-classifier"])
def test_size_that_cannot_be_halved_is_one_line(
    refuse: Refuse, parts: Path, images: Path, command: str
) -> None:
    tiny = {"preset": "tiny"}
    change(parts, diffusion=tiny | {"image_size": 36}, classifier=tiny)
    error = refuse(command, "--recipe", parts, "--data", images)
    assert "'diffusion.image_size': 36 is not a multiple of 8. Use 32" in error


def test_classifier_of_one_category_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    change(parts, categories=["disc"])
    assert "it cannot guide" in refuse("train-classifier", "--recipe", parts, "--data", images)


def test_joint_model_of_some_categories_is_one_line(
    refuse: Refuse, parts: Path, images: Path
) -> None:
    options = ["--recipe", parts, "--data", images, "--joint", "--category", "disc"]
    assert "learns all categories" in refuse("train-diffusion", *options)


def test_joint_model_takes_the_categories_in_any_order(
    run: Run, parts: Path, images: Path, tmp_path: Path
) -> None:
    change(parts, diffusion={"max_steps": 1})
    options = ["--recipe", parts, "--data", images, "--joint", "--device", "cpu"]
    wanted = ["--category", "plate", "--category", "parts.disc", "--category", "plate"]
    result = run("train-diffusion", *options, *wanted)
    assert result.code == 0, result
    report = json.loads((tmp_path / "runs/parts/diffusion/_joint/training.json").read_text())
    assert report["categories"] == ["disc", "plate"]


def test_start_from_no_model_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    options = ["--recipe", parts, "--data", images, "--init", "nowhere"]
    assert "there is no diffusion model in nowhere" in refuse("train-diffusion", *options)


def test_guidance_without_a_classifier_is_one_line(
    run: Run, refuse: Refuse, parts: Path, images: Path
) -> None:
    change(parts, diffusion={"max_steps": 1})
    options = ["--recipe", parts, "--category", "disc", "--device", "cpu"]
    assert run("train-diffusion", *options, "--data", images).code == 0
    error = refuse("synthesize", *options, "--guidance-scale", "1")
    assert "there is no classifier in runs/parts/classifier/model" in error
    assert "sia-gen train-classifier" in error


def test_loss_that_diverges_ends_with_one_line_and_the_last_checkpoint(
    run: Run, parts: Path, images: Path, tmp_path: Path
) -> None:
    change(parts, diffusion={"learning_rate": 1e30, "max_steps": 50, "checkpoint_every": 1})
    options = ["--recipe", parts, "--data", images, "--category", "disc"]
    result = run("train-diffusion", *options, "--precision", "fp32", "--device", "cpu")
    error = result.err.splitlines()[-1]
    assert result.code == 2
    assert error.startswith("error: disc: the loss became NaN or infinite at step")
    assert "learning_rate" in error
    assert not (tmp_path / "runs/parts/diffusion/disc").exists()
