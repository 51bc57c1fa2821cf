"""Files that a recipe allows to leave out: counted, reported, and no change for the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.listing import list_images, list_test_images
from sia_gen.images.loading import find_unreadable
from sia_gen.realnet.preparation import load_normal


@pytest.fixture
def root(tmp_path: Path, photographs: Path) -> Path:
    """The generated parts."""
    return shutil.copytree(photographs, tmp_path / "images")


@pytest.fixture
def skip(recipe: Recipe) -> Recipe:
    """A recipe that allows to leave files out."""
    return recipe.override({"data.unreadable": "skip"})


def damage(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(b"")


def test_by_default_nothing_is_left_out(recipe: Recipe, root: Path) -> None:
    damage(root / "disc/train/good/000.png")
    images = list_images(recipe, root, "disc")
    assert recipe.data.unreadable == "error"
    assert (len(images.fit) + len(images.validation), images.unreadable) == (12, frozenset())
    with pytest.raises(
        ImageError, match=r"good/000\.png: it is empty.*'data\.unreadable' in the recipe"
    ):
        load_normal(recipe, {"disc": images})


def test_split_stays_that_of_all_files(recipe: Recipe, skip: Recipe, root: Path) -> None:
    whole = list_images(recipe, root, "disc")
    bad = {whole.fit[0], whole.fit[5], whole.validation[1]}
    damage(*bad)
    images = list_images(skip, root, "disc")
    assert images.unreadable == bad
    assert images.fit == [path for path in whole.fit if path not in bad]
    assert images.validation == [path for path in whole.validation if path not in bad]
    normal = load_normal(skip, {"disc": images})["disc"]
    assert (len(normal.fit), len(normal.validation)) == (len(images.fit), len(images.validation))


def test_one_line_tells_how_many(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((root / "disc/train/good").iterdir())
    assert find_unreadable(paths, "disc") == frozenset()
    assert capsys.readouterr().err == ""
    damage(paths[2], paths[4])
    assert find_unreadable(paths, "disc") == {paths[2], paths[4]}
    line = capsys.readouterr().err
    assert line.startswith(
        f"disc: left out 2 of 12 images; the first: cannot read the image {root}"
    )
    assert line.count("\n") == 1
    monkeypatch.setenv("RANK", "1")
    assert find_unreadable(paths, "disc") == {paths[2], paths[4]}
    assert capsys.readouterr().err == ""


def test_name_with_a_line_break_is_told_in_one_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "a\n\x1b[2Jb.png"
    path.touch()
    find_unreadable([path], "disc")
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


def test_test_images_are_left_out_with_their_masks(
    recipe: Recipe, skip: Recipe, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = list_test_images(recipe, root, "disc")
    damage(tests[0].path, tests[6].path)
    left = list_test_images(skip, root, "disc")
    assert left == [test for place, test in enumerate(tests) if place not in (0, 6)]
    assert "disc, test: left out 2 of 8 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "message"),
    [("test/good", "no normal test images"), ("test/scratch", "no anomalous test images")],
)
def test_a_kind_of_which_nothing_is_left_is_an_error(
    skip: Recipe, root: Path, folder: str, message: str
) -> None:
    damage(*(root / "disc" / folder).iterdir())
    with pytest.raises(ImageError, match=f"'disc' has {message}"):
        list_test_images(skip, root, "disc")


def test_too_few_that_are_left_are_an_error(skip: Recipe, root: Path) -> None:
    damage(*list_images(skip, root, "disc").validation)
    with pytest.raises(ImageError, match=r"'disc' has too few normal images to fit .*: 9\."):
        list_images(skip, root, "disc")
