"""Folders of images with damaged ones among them, odd names, loops, and very many files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL.ExifTags import Base

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.evaluation.photos import image_files
from sia_gen.images.listing import list_images, list_test_images
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.recognition import recipe_for_folder
from tests.cli import conftest as cli
from tests.conditions import latin_terminal
from tests.conftest import photograph
from tests.faults.conftest import Tried, few, pairs, times
from tests.faults.pictures import GREY, bombs, png, tiff, write
from tests.processes import Running
from tests.small_networks import save_detector

run, refuse, images = cli.run, cli.refuse, cli.images
CPU = ["--device", "cpu", "--precision", "fp32"]
ONE = ["--category", "disc", "--recipe", "parts.yaml", "--data", "images"]
GOOD, SCRATCH = "disc/train/good/003.png", "disc/test/scratch/001.png"


def damaged() -> dict[str, Callable[[Path], object]]:
    """Ways to make a file one that cannot be read."""
    return {
        "cut": lambda path: write(path, path.read_bytes()[:-100]),
        "empty": lambda path: write(path, b""),
        "zeros": lambda path: write(path, bytes(1000)),
        "text": lambda path: write(path, b"no image"),
        "a bomb": lambda path: write(path, bombs()["head.png"]),
        "signed": lambda path: write(path, tiff(GREY, tags={Base.SampleFormat: 2})),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
        "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
        "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
        "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere.png")),
    }


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """A detector fitted to nothing."""
    folder = tmp_path_factory.mktemp("detector")
    save_detector(folder)
    (folder / "recipe.yaml").write_text(small.to_yaml())
    return folder


@pytest.fixture
def place(tmp_path: Path, small: Recipe, images: Path, detector: Path) -> Path:
    """A folder with images, recipes that refuse and that skip, and a detector."""
    (tmp_path / "parts.yaml").write_text(small.to_yaml())
    skip = small.override({"data.unreadable": "skip"})
    (tmp_path / "skip.yaml").write_text(skip.to_yaml())
    shutil.copytree(detector, tmp_path / "models/disc")
    return tmp_path


COMMANDS = {
    GOOD: ["train-diffusion", *ONE, "--out", "out", *CPU],
    SCRATCH: ["evaluate", *ONE, "--model", "models", "--out", "out", *CPU],
}


@pytest.mark.parametrize(("name", "kind"), pairs(COMMANDS, damaged()))
def test_a_damaged_image_ends_the_command(
    name: str, kind: str, place: Path, run: cli.Run, tried: Tried
) -> None:
    damaged()[kind](place / "images" / name)
    code, _, err = run(*COMMANDS[name])
    last = err.splitlines()[-1]
    assert (code, "Traceback" in err) == (2, False), err
    assert last.startswith(f"error: cannot read the image images/{name}: "), err
    assert "set 'data.unreadable' in the recipe to 'skip'" in last
    tried("damaged images (10 kinds) given to `train-diffusion` and `evaluate`", 1, "one line")


@pytest.mark.parametrize("kind", few(damaged()))
def test_predict_scores_the_others(kind: str, place: Path, run: cli.Run, tried: Tried) -> None:
    folder = place / "images/disc/test/scratch"
    damaged()[kind](folder / "001.png")
    code, _, err = run("predict", "models/disc", folder, "--out", "out", *CPU)
    assert code == 2
    assert f"1 of 4 images were not scored; the first: cannot read the image {folder}" in err
    rows = (place / "out/predictions.csv").read_text().splitlines()[1:]
    assert ["unreadable" in row for row in rows] == [False, True, False, False]
    tried("damaged images (10 kinds) given to `predict`", 1, "the others are scored, then one line")


@pytest.mark.parametrize("kind", damaged())
def test_a_recipe_may_skip_them(kind: str, place: Path, small: Recipe, tried: Tried) -> None:
    root = place / "images"
    skip = Recipe.load(place / "skip.yaml")
    whole, tests = list_images(small, root, "disc"), list_test_images(small, root, "disc")
    for name in (GOOD, SCRATCH):
        damaged()[kind](root / name)
    rest = list_images(skip, root, "disc")
    assert rest.unreadable == {root / GOOD}
    assert rest.fit == [path for path in whole.fit if path != root / GOOD]
    assert rest.validation == [path for path in whole.validation if path != root / GOOD]
    left = list_test_images(skip, root, "disc")
    assert left == [test for test in tests if test.path != root / SCRATCH]
    what = "damaged images (10 kinds), skipped as the recipe allows"
    tried(what, 2, "counted and reported; the split of the others is unchanged", fixed=1)


def test_skipped_images_are_counted_and_reported(place: Path, run: cli.Run, tried: Tried) -> None:
    for name in (GOOD, SCRATCH):
        write(place / "images" / name, b"no image")
    skip = [*ONE, "--recipe", "skip.yaml", "--out", "out"]
    code, _, err = run("train-diffusion", *skip, *CPU)
    line = "disc: left out 1 of 12 images; the first: cannot read the image images/"
    assert code == 0
    assert f"{line}{GOOD}: it is empty, damaged, or not one of" in err
    assert json.loads((place / "out/disc/training.json").read_text())["unreadable"] == 1
    code, _, err = run("evaluate", *skip[:-1], "evaluation", "--model", "models", *CPU)
    assert code == 0
    assert "disc, test: left out 1 of 8 images; the first: cannot read the image" in err
    summary = json.loads((place / "evaluation/metrics.json").read_text())
    assert summary["unreadable"] == {"disc": 1}
    metrics = summary["categories"]["disc"]
    assert (metrics["normal_images"], metrics["anomalous_images"]) == (4, 3)
    tried("runs with skipped images", 2, "completes; the count is in the output")


# Names that file systems allow.
NAMES = [
    *["Zähler.png".encode(), "猫.png".encode(), "e\u0301.png".encode(), "\u202e.png".encode()],
    *[b"x" * 251 + b".png", b"x" * 250 + b".tiff", "猫".encode() * 83 + b".png"],
    *[b"\xff\xfe.png", b"a\nb.png", b"\x1b[2J.png", b" .png", b"a\\b.png", b"a.b.png.png"],
    *[b"x.PNG", b"[a].png", b"{stem}.png", b"%s.png", b"*.png", b"-x.png", b"<b>&.png"],
]


def test_names(place: Path, run: cli.Run, tried: Tried) -> None:
    folders = [place / "images/disc" / group for group in ("train/good", "test/scratch")]
    for number, name in enumerate(NAMES):
        for folder in folders:
            path = folder / os.fsdecode(name)
            photograph(number).save(path, "PNG")
            loaded = load_image(path, ImageSpec("L", 32))
            assert np.array_equal(loaded[0], np.asarray(photograph(number)))
    sources = [*folders, folders[1] / os.fsdecode(NAMES[4])]
    for command in (
        ["train-diffusion", *ONE, "--out", "out", *CPU],
        ["evaluate", *ONE, "--model", "models", "--out", "evaluation", *CPU],
        ["predict", "models/disc", *sources, "--out", "predictions", *CPU],
    ):
        code, _, err = run(*command)
        assert code == 0, err
    # What is given twice is scored once.
    count = 2 * len(NAMES) + 12 + 4
    table = (place / "predictions/predictions.csv").read_text(encoding="utf-8")
    assert table.count("normal,0.5") + table.count("anomalous,0.5") == count
    assert len(list((place / "predictions/heatmaps").iterdir())) == count
    what = "file names: not ASCII, not text, 255 bytes, special characters"
    tried(what, len(NAMES), "handled like any other", fixed=3)


def test_names_that_a_terminal_does_not_know(place: Path, tried: Tried) -> None:
    photographs = place / "images/disc/test/good"
    arguments = ["predict", "models/disc", str(photographs), "--out", "猫", *CPU]
    told = Running(arguments, place, place / "told.txt", condition=latin_terminal).done()
    assert r"see \u732b/predictions.csv" in told.text
    tried("a file name that the terminal cannot show", 1, "handled like any other", fixed=1)


def test_loops(place: Path, run: cli.Run, small: Recipe, tried: Tried) -> None:
    root = place / "images"
    before = list_images(small, root, "disc"), list_test_images(small, root, "disc")
    for folder in (root, root / "disc", root / "disc/test/scratch"):
        (folder / "up").symlink_to(folder.parent)
        (folder / "here").symlink_to(".")
        (folder / "itself").symlink_to("itself")
    assert (list_images(small, root, "disc"), list_test_images(small, root, "disc")) == before
    assert len(image_files([root / "disc/test"])) == 8
    code, _, err = run("predict", "models/disc", "images/disc/test", "--out", "out", *CPU)
    assert code == 0, err
    (place / "loop").symlink_to("loop")
    with pytest.raises(ImageError, match="there is no image folder"):
        recipe_for_folder(place / "loop")
    for command in (
        ["train-diffusion", "--data", "loop"],
        ["predict", "models/disc", "loop"],
        ["recipes", "loop/x.yaml"],
        ["train-diffusion", *ONE, "--out", "loop", *CPU],
    ):
        code, _, err = run(*command)
        assert (code, err.count("error: "), "Traceback" in err) == (2, 1, False), err
    tried("symlink loops, in and instead of folders", 14, "each image is read once, or one line")


def test_many_files(tmp_path: Path, recipe: Recipe, tried: Tried) -> None:
    count = times(2000, 100_000)
    content = recipe.model_dump(mode="json")
    content["data"]["images"]["mask"] = "{category}/ground_truth/{defect}/{stem}_mask.*"
    masked = Recipe.parse(content, where="test")
    groups = {
        "train/good": "",
        "test/good": "",
        "test/scratch": "",
        "ground_truth/scratch": "_mask",
    }
    image = png(GREY)
    mask = write(tmp_path / "mask.png", png((GREY > 200) * np.uint8(255)))
    for group, suffix in groups.items():
        folder = tmp_path / "images/disc" / group
        folder.mkdir(parents=True)
        for number in range(count):
            path = folder / f"{number:06d}{suffix}.png"
            if suffix:
                path.symlink_to(mask)
            else:
                # Copies would count once.
                path.write_bytes(image + f"{group} {number}".encode())
    root = tmp_path / "images"
    listed = list_images(masked, root, "disc")
    assert len(listed.fit) + len(listed.validation) == len(listed.test_anomalous) == count
    assert all(
        image.mask is not None and image.mask.name == f"{image.path.stem}_mask.png"
        for image in listed.test_anomalous
    )
    assert len(list_test_images(masked, root, "disc")) == 2 * count
    assert len(image_files([root / "disc/train"])) == count
    own = recipe_for_folder(root / "disc")
    assert own.data.images.normal == "train/good/*"
    tried(f"{count:,} images in one folder, with a mask each", 1, "all are listed", fixed=1)
