"""Listing images and splitting them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import elpv_dataset
import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.listing import (
    CategoryImages,
    data_root,
    list_images,
    list_labelled_images,
    list_test_images,
    package_folder,
    split_images,
)

TABLE = """\
images/a.png  0.0  mono
images/b.png  0.0  mono
images/c.png  1.0  mono
images/d.png  0.33 mono
images/e.png  0.0  poly
images/f.png  0.0  mono
"""


def parts(images: CategoryImages) -> list[list[Path]]:
    return [images.fit, images.validation, images.test_normal, anomalous(images)]


def anomalous(images: CategoryImages) -> list[Path]:
    return [image.path for image in images.test_anomalous]


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


@pytest.fixture
def elpv() -> Recipe:
    return Recipe.load("elpv")


@pytest.fixture
def table(elpv: Recipe, tmp_path: Path) -> Recipe:
    """The ELPV recipe on a table of its own, `tmp_path/data/labels.csv`."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text(TABLE)
    return elpv


@pytest.mark.parametrize(
    ("category", "fitted", "normal", "tested"),
    [("mono", 411, 588, 313), ("poly", 644, 920, 402)],
)
def test_solar_cells_are_split_as_published(
    elpv: Recipe, category: str, fitted: int, normal: int, tested: int
) -> None:
    images = list_images(elpv, data_root(elpv, None), category)
    assert len(images.fit) + len(images.validation) == fitted
    assert len(images.validation) == round(0.1 * fitted)
    assert len(images.test_normal) == normal - fitted
    assert len(images.test_anomalous) == tested
    everything = list(chain(*parts(images)))
    assert len(set(everything)) == len(everything) == normal + tested
    assert all(path.is_file() for path in everything)


def test_images_of_a_package_are_found_without_a_folder(elpv: Recipe) -> None:
    assert data_root(elpv, None) == Path(elpv_dataset.__file__).parent


def test_table_gives_images_by_label_and_category(table: Recipe, tmp_path: Path) -> None:
    images = list_images(table, tmp_path, "mono")
    normal = names(images.fit) | names(images.validation) | names(images.test_normal)
    assert normal == {"a.png", "b.png", "f.png"}
    assert anomalous(images) == [tmp_path / "data" / "images" / "c.png"]


def test_table_may_be_separated_by_commas(table: Recipe, tmp_path: Path) -> None:
    before = list_images(table, tmp_path, "mono")
    lines = [",".join(line.split()) for line in TABLE.splitlines()]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines))
    assert list_images(table, tmp_path, "mono") == before


@pytest.mark.parametrize("line", ["images/g.png 0.0", "a,b,c,d"])
def test_wrong_line_of_a_table_is_named(table: Recipe, tmp_path: Path, line: str) -> None:
    (tmp_path / "data" / "labels.csv").write_text(f"{TABLE}{line}\n")
    with pytest.raises(ImageError, match=r"line 7 of .*labels\.csv has \d values for 3 columns"):
        list_images(table, tmp_path, "mono")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_unreadable_table_is_named(table: Recipe, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data" / "labels.csv"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"cannot read the table of labels .*labels\.csv"):
        list_images(table, tmp_path, "mono")


def test_folders_are_split_as_they_lie(recipe: Recipe, photographs: Path) -> None:
    images = list_images(recipe, photographs, "disc")
    train = set((photographs / "disc/train/good").iterdir())
    assert {*images.fit, *images.validation} == train
    assert len(images.validation) == round(0.25 * len(train))
    assert set(images.test_normal) == set((photographs / "disc/test/good").iterdir())
    assert set(anomalous(images)) == set((photographs / "disc/test/scratch").iterdir())


def test_part_of_the_normal_images_is_tested_when_there_is_no_split(
    recipe: Recipe, photographs: Path
) -> None:
    content = recipe.model_dump()
    del content["data"]["images"]["test_normal"]
    images = list_images(Recipe.parse(content, where="test"), photographs, "disc")
    assert [len(part) for part in parts(images)] == [6, 2, 4, 8]


def test_split_depends_on_its_seed_alone(recipe: Recipe, photographs: Path) -> None:
    again = list_images(recipe.override({"seed": 9}), photographs, "disc")
    other = list_images(recipe.override({"data.split_seed": 9}), photographs, "disc")
    images = list_images(recipe, photographs, "disc")
    assert images == again
    assert images.validation != other.validation


def test_other_files_are_no_images(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "disc" / "train" / "good"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.JPG", "c.tiff", "Thumbs.db", "notes.txt"):
        (folder / name).touch()
    images = list_images(recipe, tmp_path, "disc")
    assert names(images.fit + images.validation) == {"a.png", "b.JPG", "c.tiff"}
    assert parts(images)[2:] == [[], []]


@pytest.mark.parametrize("count", [1, 2])
def test_two_normal_images_are_enough_and_one_is_not(
    recipe: Recipe, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "disc" / "train" / "good"
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.png").touch()
    if count == 2:
        images = list_images(recipe, tmp_path, "disc")
        assert (len(images.fit), len(images.validation)) == (1, 1)
    else:
        with pytest.raises(ImageError, match=r"'disc' has too few normal images .*: 1\..*least 2"):
            list_images(recipe, tmp_path, "disc")


def test_folder_without_images_is_named_with_the_pattern(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no images at .*/disc/train/good/\*"):
        list_images(recipe, tmp_path, "disc")


def test_good_test_images_alone_are_listed_but_not_enough_to_select_on(
    recipe: Recipe, photographs: Path
) -> None:
    assert len(list_labelled_images(recipe, photographs, "disc")) == 8
    good = recipe.override({"data.images.test_anomalous": "{category}/nowhere/*"})
    assert {test.label for test in list_test_images(good, photographs, "disc")} == {0}
    with pytest.raises(ImageError, match="'disc' has no anomalous test images"):
        list_labelled_images(good, photographs, "disc")


def test_validation_images_of_their_own_are_all_held_out(recipe: Recipe, photographs: Path) -> None:
    validation = {"data.images.validation": ["{category}/test/good/00[01].png"]}
    own = recipe.override(
        {**validation, "data.images.test_normal": "{category}/test/good/00[23].png"}
    )
    images = list_images(own, photographs, "disc")
    assert [len(part) for part in parts(images)] == [12, 2, 2, 4]
    assert {path.parent.parent.name for path in images.validation} == {"test"}


def test_validation_images_are_no_test_images(recipe: Recipe, photographs: Path) -> None:
    both = recipe.override({"data.images.validation": ["{category}/test/good/*"]})
    with pytest.raises(
        ImageError, match=r"000\.png is an image to learn from and also a test image"
    ):
        split_images(both, photographs, "disc")


def test_excluded_names_are_no_images(recipe: Recipe, photographs: Path) -> None:
    some = recipe.override({"data.images.exclude": ["00[01].png", "scratch"]})
    images = list_images(some, photographs, "disc")
    assert [len(part) for part in parts(images)] == [8, 2, 2, 0]


def copied(paths: list[Path]) -> list[Path]:
    """Copies of files beside them, named as browsers do."""
    copies = [path.with_stem(f"{path.stem} (1)") for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        shutil.copy(path, copy)
    return copies


def none_set_apart(recipe: Recipe) -> Recipe:
    """A recipe whose data set has no normal images of its own for the test."""
    content = recipe.model_dump()
    del content["data"]["images"]["test_normal"]
    return Recipe.parse(content, where="test")


@pytest.mark.parametrize("set_apart", [True, False])
def test_copies_serve_one_purpose_and_leave_that_of_the_others(
    recipe: Recipe, photographs: Path, tmp_path: Path, set_apart: bool
) -> None:
    """Also of those that are tested because the data set sets none apart."""
    shutil.copytree(photographs / "disc", tmp_path / "disc")
    if not set_apart:
        recipe = none_set_apart(recipe)
    folder = tmp_path / "disc/train/good"
    copies = copied(sorted(folder.iterdir())[:6])
    images = split_images(recipe, tmp_path, "disc")
    used = [*images.fit, *images.validation, *images.test_normal]
    contents = {path.read_bytes() for path in used}
    assert len(contents) == len(used)
    assert {path.read_bytes() for path in folder.iterdir()} <= contents
    assert images.duplicates == {*folder.iterdir()} - {*used}
    for path in copies:
        path.write_bytes(path.read_bytes() + b"no copy")
    whole = split_images(recipe, tmp_path, "disc")
    for part, others in zip(parts(images), parts(whole), strict=True):
        assert part == [path for path in others if path not in images.duplicates]


def test_images_held_out_are_not_learnt_under_other_names(
    recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    shutil.copytree(photographs / "disc", tmp_path / "disc")
    held_out = tmp_path / "disc/val"
    held_out.mkdir()
    for number in range(3):
        shutil.copy(tmp_path / f"disc/train/good/00{number}.png", held_out / f"x{number}.png")
    own = recipe.override({"data.images.validation": "{category}/val/*"})
    images = list_images(own, tmp_path, "disc")
    assert (len(images.fit), len(images.validation), len(images.duplicates)) == (9, 3, 3)
    shutil.rmtree(held_out)
    shutil.copytree(tmp_path / "disc/train/good", held_out)
    with pytest.raises(ImageError, match=r"too few normal images .*: 12, besides 12 duplicates"):
        list_images(own, tmp_path, "disc")


@pytest.mark.parametrize("twice", [shutil.copy, os.symlink])
@pytest.mark.parametrize("set_apart", [True, False])
def test_one_image_is_not_both_good_and_defective(
    recipe: Recipe,
    photographs: Path,
    tmp_path: Path,
    twice: Callable[[Path, Path], object],
    set_apart: bool,
) -> None:
    shutil.copytree(photographs / "disc", tmp_path / "disc")
    if not set_apart:
        recipe = none_set_apart(recipe)
    good = sorted(split_images(recipe, tmp_path, "disc").test_normal)[0]
    twice(good, tmp_path / "disc/test/scratch/x.png")
    with pytest.raises(ImageError, match=rf"{good} and .*/scratch/x\.png\. Remove the wrong one"):
        list_test_images(recipe, tmp_path, "disc")
    (tmp_path / "disc/test/scratch/x.png").unlink()
    twice(tmp_path / "disc/test/scratch/000.png", tmp_path / "disc/test/scratch/x.png")
    list_test_images(recipe, tmp_path, "disc")


def test_given_folder_must_be_there(recipe: Recipe, tmp_path: Path) -> None:
    assert data_root(recipe, tmp_path) == tmp_path
    with pytest.raises(ImageError, match=r"there is no image folder .*nowhere"):
        data_root(recipe, tmp_path / "nowhere")


def test_recipe_without_images_of_its_own_needs_a_folder(recipe: Recipe) -> None:
    with pytest.raises(ImageError, match=r"with --data; they come from the tests"):
        data_root(recipe, None)


@pytest.mark.parametrize(
    "package", ["no_such_package", "no_such.package", "", "abc", "json./tmp", "json...", "json.."]
)
def test_package_that_is_not_installed_is_named(package: str) -> None:
    with pytest.raises(ImageError, match=f"'{package.replace('_', '-')}' is not installed"):
        package_folder(package)
