"""Own images without a recipe, and wrong image folders, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.networks.unet import PRESETS
from tests.images.trees import btad, mvtec_ad, visa_table, write_images
from tests.small_networks import PRESET

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

COMMANDS = ["train-diffusion", "fit-realnet", "evaluate"]
QUICK = ["--device", "cpu", "--precision", "fp32"]


@pytest.mark.parametrize("command", COMMANDS)
def test_neither_recipe_nor_folder_is_one_line(refuse: Refuse, command: str) -> None:
    line = refuse(command)
    assert line.startswith("error: neither a recipe nor an image folder was given. Give --recipe")


@pytest.mark.parametrize("command", COMMANDS)
def test_known_data_set_without_a_recipe_is_one_line(
    refuse: Refuse, tmp_path: Path, command: str
) -> None:
    mvtec_ad(tmp_path / "mvtec", ["bottle"])
    line = refuse(command, "--data", "mvtec")
    assert "mvtec looks like MVTec AD (bottle/train/good). Give --recipe mvtec-ad." in line


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_own_folder_is_one_line(refuse: Refuse, command: str) -> None:
    assert "there is no image folder nowhere" in refuse(command, "--data", "nowhere")


@pytest.mark.parametrize("command", [*COMMANDS, "run"])
def test_file_in_place_of_a_folder_is_one_line(
    refuse: Refuse, tmp_path: Path, command: str
) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    line = refuse(command, "--data", "photos.zip")
    assert "photos.zip is a file, not a folder of images." in line


def test_data_of_another_layout_is_one_line(refuse: Refuse, tmp_path: Path) -> None:
    visa_table(tmp_path / "VisA", ["candle"])
    line = refuse("train-diffusion", "--recipe", "btad", "--data", "VisA", *QUICK)
    assert "VisA looks like VisA (split_csv/1cls.csv); recipe 'btad' expects 01/train/ok/*." in line
    assert line.endswith("Give --recipe visa, or the right folder with --data.\n")


def test_folder_of_one_category_is_one_line(refuse: Refuse, tmp_path: Path) -> None:
    root = btad(tmp_path / "btad", ["02"])
    line = refuse("train-diffusion", "--recipe", "btad", "--data", "btad/02", *QUICK)
    assert line.endswith(f"Give --data {root} --category 02.\n")


def test_single_own_image_is_one_line(refuse: Refuse, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", "0.png")
    line = refuse("train-diffusion", "--data", "photos", *QUICK)
    assert "category 'photos' has too few normal images to fit" in line


@pytest.mark.parametrize("kind", ["floating-point", "text"])
def test_image_of_no_use_is_one_line(refuse: Refuse, tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "photos", "0.tif", "1.tif")
    if kind == "text":
        (tmp_path / "photos/1.tif").write_text("not an image")
    else:
        Image.new("F", (16, 16)).save(tmp_path / "photos/1.tif")
    line = refuse("train-diffusion", "--data", "photos", *QUICK)
    assert "cannot read the image" in line
    assert "photos/1.tif" in line


def test_wrong_foreground_of_a_recipe_is_one_line(refuse: Refuse, parts: Path) -> None:
    content = yaml.safe_load(parts.read_text()) | {"foreground": {"disk": {"method": "otsu"}}}
    parts.write_text(yaml.safe_dump(content))
    line = refuse("fit-realnet", "--recipe", parts)
    assert "'foreground': 'disk' is not among 'categories' (did you mean 'disc'?)" in line


def test_own_images_are_trained_on_and_the_recipe_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is chosen for few images takes a minute here.
    monkeypatch.setitem(PRESETS, "small", PRESETS[PRESET])
    write_images(tmp_path / "My Gears", *(f"good/{number}.png" for number in range(4)))
    (tmp_path / "My Gears/film.mp4").touch()
    result = run("train-diffusion", "--data", "My Gears", "--max-steps", "1", *QUICK)
    assert result.code == 0, result.err
    assert "my-gears: good images to learn from: 3, to validate: 1;" in result.err
    assert "passed over: 1 video." in result.err
    saved = "runs/my-gears/diffusion/recipe.yaml"
    assert f"Next: sia-gen synthesize --recipe {saved}" in result.out
    recipe = Recipe.load(saved)
    assert (recipe.categories, recipe.mode, recipe.diffusion.image_size) == (["my-gears"], "L", 32)
    again = run("train-diffusion", "--recipe", saved, "--data", "My Gears", *QUICK)
    assert again.code == 0, again.err
    # Whoever gives a recipe knows the images.
    assert "passed over" not in again.err


@pytest.mark.parametrize("command", COMMANDS)
def test_unclear_own_folder_is_one_line(refuse: Refuse, tmp_path: Path, command: str) -> None:
    write_images(tmp_path / "photos", "good/0.png", "good/1.png", "day2/0.png")
    line = refuse(command, "--data", "photos")
    assert "images of good parts in good (2), and others in day2 (1)" in line
    assert "Move day2 to 'good/day2', or defects to 'bad/day2'" in line
