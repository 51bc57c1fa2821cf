"""Own photographs on the command line: their shape and depth, and those of the second day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.images import recognition
from sia_gen.networks.unet import PRESETS
from tests.corpus.conftest import HandmadeCorpus
from tests.images.trees import write_images
from tests.small_networks import PRESET

if TYPE_CHECKING:
    from tests.cli.conftest import Run

CPU = ["--device", "cpu", "--precision", "fp32"]
ONE = ["--max-steps", "1", *CPU]
SAVED = "runs/photos/diffusion/recipe.yaml"


@pytest.fixture(autouse=True)
def minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen for own photographs takes a minute here."""
    for preset in ("small", "base"):
        monkeypatch.setitem(PRESETS, preset, PRESETS[PRESET])


def test_recipe_of_the_first_day_is_that_of_the_second(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "MANY", 6)
    photos = tmp_path / "photos"
    write_images(photos, *(f"{number}.png" for number in range(4)))
    assert run("train-diffusion", "--data", "photos", *ONE).code == 0
    first = Recipe.load(SAVED)
    for number in range(4, 8):
        Image.new("RGB", (300, 300), (200, 10, number)).save(photos / f"{number}.png")
    today = recognition.recipe_for_folder(photos)
    assert (today.mode, today.diffusion.preset, today.diffusion.image_size) == ("RGB", "base", 128)
    result = run("train-diffusion", "--data", "photos", "--max-steps", "2", *CPU)
    assert result.code == 0, result.err
    assert f"Goes on with the recipe in {SAVED}." in result.err
    assert "photos: goes on with the 4 photographs that it began with" in result.err
    assert Recipe.load(SAVED) == first.override({"diffusion.max_steps": 2})
    report = json.loads(Path("runs/photos/diffusion/photos/training.json").read_text())
    assert (report["steps"], report["images"]) == (2, 3)
    anew = run("train-diffusion", "--data", "photos", "--no-resume", *ONE)
    assert anew.code == 0, anew.err
    report = json.loads(Path("runs/photos/diffusion/photos/training.json").read_text())
    assert report["images"] == 7


@pytest.mark.parametrize(
    ("option", "value", "difference"),
    [("--seed", "7", "seed: 0, now 7"), ("--non-square", "pad", "non_square: crop, now pad")],
)
def test_options_that_contradict_the_first_day_are_refused(
    run: Run, tmp_path: Path, option: str, value: str, difference: str
) -> None:
    write_images(tmp_path / "photos", *(f"{number}.png" for number in range(4)))
    first = run("train-diffusion", "--data", "photos", "--non-square", "crop", *ONE)
    assert first.code == 0, first.err
    assert "4 of 4 images are not square; they are cropped, which loses 25 %" in first.err
    again = run("train-diffusion", "--data", "photos", *ONE)
    assert again.code == 0, again.err
    assert "cropped" in again.err
    result = run("train-diffusion", "--data", "photos", option, value, *ONE)
    assert result.code == 2
    assert difference in result.err


def test_own_photographs_are_padded_and_it_is_said(run: Run, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", *(f"{number}.png" for number in range(4)))
    result = run("train-diffusion", "--data", "photos", *ONE)
    assert (
        "4 of 4 images are not square; they are padded, and the padding never counts" in result.err
    )
    assert Recipe.load(SAVED).data.non_square == "pad"


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Photographs of 12 bits in files of 16, in the layout of the recipe of the tests."""
    groups = {"train/good": (0, 8), "test/good": (100, 3), "test/scratch": (200, 3)}
    for folder, (first, count) in groups.items():
        (tmp_path / "deep/disc" / folder).mkdir(parents=True)
        for number in range(first, first + count):
            levels = np.random.default_rng(number).integers(0, 4096, (32, 32)).astype(np.uint16)
            suffix = "tif" if number % 2 else "png"
            Image.fromarray(levels).save(tmp_path / f"deep/disc/{folder}/{number}.{suffix}")
    return tmp_path / "deep"


def test_white_is_the_same_from_the_first_step_to_the_last(
    run: Run, parts: Path, deep: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(parts.read_text()) | {"categories": ["disc"]}
    content["synthesis"] |= {"images": 3}
    parts.write_text(yaml.safe_dump(content))
    given = ["--recipe", parts, "--data", deep]
    result = run("train-diffusion", *given, *ONE)
    assert result.code == 0, result.err
    assert "16-bit images use 12 bits: white is 4095." in result.err
    models = tmp_path / "runs/parts/diffusion"
    for folder in (models, models / "disc"):
        assert Recipe.load(folder / "recipe.yaml").data.white == 4095
    # Today's photographs alone look like 10 bits.
    for path in (deep / "disc").glob("*/good/*"):
        with Image.open(path) as file:
            darker = np.asarray(file) // 5
        Image.fromarray(darker.astype(np.uint16)).save(path)
    result = run("synthesize", "--recipe", parts, *CPU)
    assert result.code == 0, result.err
    assert Recipe.load(tmp_path / "runs/parts/corpus/recipe.yaml").data.white == 4095
    result = run("fit-realnet", *given, *ONE)
    assert result.code == 0, result.err
    assert "16-bit images: white is 4095, as in" in result.err
    assert Recipe.load(tmp_path / "runs/parts/realnet/disc/recipe.yaml").data.white == 4095
    result = run("evaluate", *given, *CPU)
    assert result.code == 0, result.err


def test_white_follows_the_corpus_of_a_fit(
    run: Run, parts: Path, deep: Path, tmp_path: Path
) -> None:
    corpus = HandmadeCorpus(tmp_path / "corpus").folder
    recipe = Recipe.load(parts).override({"data.white": 16383})
    (corpus / "recipe.yaml").write_text(recipe.to_yaml())
    options = ["--category", "disc", "--corpus", "corpus", "--out", "fitted"]
    result = run("fit-realnet", "--recipe", parts, "--data", deep, *options, *ONE)
    assert result.code == 0, result.err
    assert "white is 16383, as in corpus/recipe.yaml." in result.err
    assert Recipe.load(tmp_path / "fitted/disc/recipe.yaml").data.white == 16383


def test_run_settles_what_is_white_and_goes_on_with_it(run: Run, parts: Path, deep: Path) -> None:
    given = ["--recipe", parts, "--data", deep, "--category", "disc", "--plan", *CPU]
    result = run("run", *given)
    assert result.code == 0, result.err
    assert "16-bit images use 12 bits: white is 4095." in result.err
    begun = Recipe.load(parts).override({"data.white": 16383, "diffusion.max_steps": 3})
    Path("runs/parts").mkdir(parents=True)
    Path("runs/parts/recipe.yaml").write_text(begun.to_yaml())
    result = run("run", *given)
    assert result.code == 0, result.err
    assert "white is" not in result.err
    assert " 3 steps of" in result.out
    assert "white is 4095" in run("run", *given, "--no-resume").err
