"""User errors print one line and change nothing on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from PIL import Image

from sia_gen.config.recipe import Recipe

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

MODEL_FILES = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
]
WRONG_STRENGTHS = {
    "-0.1": "is negative",
    "nan": "is not finite",
    "0:inf": "is not finite",
    "0.2:0.1": "is reversed",
    "much": "is not a number",
    "1:2:3": "has 3 numbers",
}


@pytest.mark.parametrize("command", ["train-diffusion", "synthesize", "fit-realnet", "evaluate"])
def test_unknown_category_is_one_line(refuse: Refuse, parts: Path, command: str) -> None:
    line = refuse(command, "--recipe", parts, "--category", "disk", "--out", "out")
    assert "'disk' (did you mean 'disc'?)" in line


@pytest.mark.parametrize("command", ["train-diffusion", "fit-realnet", "evaluate", "calibrate"])
def test_category_may_be_named_with_its_data_set(refuse: Refuse, parts: Path, command: str) -> None:
    line = refuse(command, "--recipe", parts, "--category", "parts.disc", "--data", "nowhere")
    assert "there is no image folder nowhere" in line


@pytest.mark.parametrize("strength", WRONG_STRENGTHS)
def test_wrong_strength_is_one_line(refuse: Refuse, parts: Path, strength: str) -> None:
    line = refuse("synthesize", "--recipe", parts, "--strength", strength, "--out", "out")
    assert WRONG_STRENGTHS[strength] in line


@pytest.mark.parametrize("command", ["synthesize", "calibrate"])
@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ("blob", "unknown perturbation 'blob' (did you mean 'blobs'?)"),
        ("", "unknown perturbation ''"),
        ("white,,pink", "unknown perturbation ''"),
        ("pink,pink", "'pink' is given twice"),
    ],
)
def test_wrong_perturbation_is_one_line(
    refuse: Refuse, parts: Path, images: Path, command: str, kinds: str, problem: str
) -> None:
    data = ["--data", images] if command == "calibrate" else []
    line = refuse(command, "--recipe", parts, *data, "--perturbation", kinds, "--out", "out")
    assert problem in line


def test_empty_list_of_perturbations_is_one_line(refuse: Refuse, parts: Path) -> None:
    content = yaml.safe_load(parts.read_text())
    content["synthesis"] = {"perturbation": []}
    parts.write_text(yaml.safe_dump(content))
    line = refuse("synthesize", "--recipe", parts, "--out", "out")
    assert "'synthesis.perturbation': list should have at least 1 item" in line


def test_wrong_field_of_a_recipe_is_one_line(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: parts\ntitel: Parts\n")
    line = refuse("evaluate", "--recipe", "wrong.yaml")
    assert "wrong.yaml: unknown key 'titel' (did you mean 'title'?)." in line


def test_synthesis_without_a_model_is_one_line(refuse: Refuse, parts: Path) -> None:
    line = refuse("synthesize", "--recipe", parts, "--out", "out")
    assert "there is no diffusion model in runs/parts/diffusion/disc" in line


@pytest.mark.parametrize("content", [b"{}", b"no JSON", b"[]", b""])
def test_damaged_model_is_one_line(
    refuse: Refuse, parts: Path, tmp_path: Path, content: bytes
) -> None:
    weights = "unet/diffusion_pytorch_model.safetensors"
    for file in (
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "model_index.json",
        weights,
    ):
        path = tmp_path / "models" / "disc" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    line = refuse("synthesize", "--recipe", parts, "--model", "models", "--category", "disc")
    assert "models/disc" in line


def test_evaluation_without_a_model_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    line = refuse("evaluate", "--recipe", parts, "--data", images, "--out", "out")
    assert "there is no RealNet in runs/parts/realnet/disc" in line


def train(refuse: Refuse, recipe: Path, data: Path | str, out: Path | str = "out") -> str:
    options = ["--device", "cpu", "--precision", "fp32", "--out", str(out)]
    return refuse("train-diffusion", "--recipe", recipe, "--data", data, *options)


def test_missing_image_folder_is_one_line(refuse: Refuse, parts: Path) -> None:
    assert "there is no image folder nowhere" in train(refuse, parts, "nowhere")


def test_data_without_a_folder_is_one_line(refuse: Refuse, parts: Path) -> None:
    assert "Give their folder with --data" in refuse("train-diffusion", "--recipe", parts)


def test_empty_image_folder_is_one_line(refuse: Refuse, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images at empty/disc/train/good/*" in train(refuse, parts, "empty")


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_damaged_image_is_one_line(
    refuse: Refuse, parts: Path, images: Path, content: bytes | None
) -> None:
    for path in (images / "plate/train/good").iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert f"cannot read the image {images}/plate/train/good/0" in train(refuse, parts, images)


def test_folder_in_place_of_an_image_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    for path in (images / "disc/train/good").iterdir():
        path.unlink()
        path.mkdir()
    assert f"cannot read the image {images}/disc" in train(refuse, parts, images)


def test_oblong_image_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    for grey, path in enumerate((images / "disc/train/good").iterdir()):
        Image.new("L", (32, 16), grey).save(path)
    assert "is 32 x 16 pixels, not square. Set 'data.non_square'" in train(refuse, parts, images)


def test_folder_of_another_recipe_is_left_alone(
    refuse: Refuse, parts: Path, images: Path, tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recipe.yaml").write_text(recipe.override({"seed": 5}).to_yaml())
    assert "another recipe (seed: 5, now 0)" in train(refuse, parts, images)


def test_file_in_place_of_the_output_is_left_alone(
    refuse: Refuse, parts: Path, images: Path
) -> None:
    assert "cannot make the output folder" in train(refuse, parts, images, out=parts)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.pth", "there is no file of backbone weights nowhere.pth"),
        ({"package": "no_such_package", "file": "x"}, "'no-such-package' is not installed"),
    ],
)
def test_missing_weights_are_one_line(
    refuse: Refuse,
    parts: Path,
    images: Path,
    recipe: Recipe,
    weights: str | dict[str, str],
    message: str,
) -> None:
    content = recipe.model_dump(mode="json")
    content["realnet"]["weights"] = weights
    parts.write_text(yaml.safe_dump(content))
    assert message in refuse("fit-realnet", "--recipe", parts, "--data", images, "--out", "out")


def test_weights_that_cannot_be_fetched_are_one_line_after_the_attempt(
    run: Run, parts: Path, images: Path, recipe: Recipe, tmp_path: Path
) -> None:
    content = recipe.model_dump(mode="json")
    content["realnet"]["weights"] = None
    parts.write_text(yaml.safe_dump(content))
    result = run("fit-realnet", "--recipe", parts, "--data", images, "--out", "out")
    attempt, error = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    backbone = recipe.realnet.backbone
    assert attempt.startswith(f"fetching the weights of {backbone}")
    assert error.startswith(f"error: cannot download the weights of '{backbone}'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no weights"])
@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_damaged_weights_are_one_line(
    refuse: Refuse, parts: Path, images: Path, tmp_path: Path, extension: str, content: bytes
) -> None:
    weights = tmp_path / f"weights.{extension}"
    weights.write_bytes(content)
    options = ["--data", images, "--weights", weights, "--out", "out"]
    line = refuse("fit-realnet", "--recipe", parts, *options)
    assert f"cannot read {weights}, it is damaged or no checkpoint" in line


def test_missing_corpus_is_one_line(refuse: Refuse, parts: Path, images: Path) -> None:
    line = refuse("fit-realnet", "--recipe", parts, "--data", images, "--out", "out")
    assert "runs/parts/corpus is not a corpus" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize(
    ("options", "message"),
    [(["--device", "cuda"], "no CUDA device"), (["--precision", "fp16"], "fp16 needs a GPU")],
)
def test_hardware_that_is_not_there_is_one_line(
    refuse: Refuse, parts: Path, images: Path, options: list[str], message: str
) -> None:
    line = refuse("train-diffusion", "--recipe", parts, "--data", images, *options)
    assert message in line


@pytest.mark.parametrize("folder", [".", "disc", "disc/train/good"])
def test_unreadable_image_folder_is_one_line(
    refuse: Refuse, parts: Path, images: Path, folder: str
) -> None:
    (images / folder).chmod(0)
    if os.access(images / folder, os.R_OK):
        pytest.skip("permissions do not bind root")
    try:
        line = train(refuse, parts, images)
    finally:
        (images / folder).chmod(0o700)
    assert str(images) in line
