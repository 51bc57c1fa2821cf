"""What a model learnt, by names and contents, whatever is added or removed since."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.images.listing import CategoryImages, list_images, list_test_images
from sia_gen.io.files import write_json
from tests.conftest import photograph


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Own photographs without a folder for the test: 20 good ones and 2 with a scratch."""
    for folder, numbers in {"good": range(20), "test/scratch": range(100, 102)}.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in numbers:
            image = photograph(number, defect=number >= 100)
            image.save(tmp_path / folder / f"{number:03d}.png")
    return tmp_path


@pytest.fixture
def own(recipe: Recipe) -> Recipe:
    images = {"layout": "folder", "normal": "good/*", "test_anomalous": "test/*/*"}
    return recipe.override({"categories": ["disc"], "data.images": images})


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def learn(own: Recipe, root: Path) -> tuple[CategoryImages, Learnt]:
    listed = list_images(own, root, "disc")
    return listed, Learnt.of([listed], root)


def test_record_has_names_and_contents_in_order(own: Recipe, root: Path) -> None:
    listed, learnt = learn(own, root)
    assert list(learnt.fit) == names(listed.fit, root)
    assert list(learnt.validation) == names(listed.validation, root)
    assert len(learnt) == 14
    for name, content in (learnt.fit | learnt.validation).items():
        assert content == hashlib.sha256((root / name).read_bytes()).hexdigest()


def test_record_survives_being_saved_with_any_name(own: Recipe, root: Path) -> None:
    for name in (b"\xff\xfe.png", "猫.png".encode(), b"a\nb.png", b'"x".png'):
        shutil.copy(root / "good/000.png", root / "good" / os.fsdecode(name))
    listed, learnt = learn(own.override({"data.fit_fraction": 0.99}), root)
    write_json(root / LEARNT, learnt.model_dump())
    assert Learnt.read(root) == learnt
    assert learnt.images_of([listed], root) == [listed]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"fit": {}}', '{"fit": {"a": 1}}'])
def test_record_that_is_missing_or_damaged_says_nothing(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / LEARNT).write_text(content)
    assert Learnt.read(tmp_path) is None


def test_images_are_those_that_were_learnt_though_others_were_added(
    own: Recipe, root: Path
) -> None:
    listed, learnt = learn(own, root)
    for number in range(20, 30):
        photograph(number).save(root / f"good/{number:03d}.png")
    now = list_images(own, root, "disc")
    assert set(now.fit) & set(listed.test_normal)
    (begun,) = learnt.images_of([now], root)
    assert (begun.fit, begun.validation) == (listed.fit, listed.validation)


def test_training_that_began_with_copies_keeps_its_images(own: Recipe, root: Path) -> None:
    """Earlier versions learnt from copies; their trainings go on with the same split."""
    listed, _ = learn(own, root)
    copy = root / "good/copy.png"
    shutil.copy(listed.fit[0], copy)
    begun = replace(listed, fit=[*listed.fit[1:], copy, listed.fit[0]])
    learnt = Learnt.of([begun], root)
    now = list_images(own, root, "disc")
    assert now.duplicates
    (found,) = learnt.images_of([now], root)
    assert (found.fit, found.validation) == (begun.fit, begun.validation)


def test_images_stay_as_listed_if_one_that_was_learnt_is_gone(own: Recipe, root: Path) -> None:
    listed, learnt = learn(own, root)
    listed.fit[0].unlink()
    now = list_images(own, root, "disc")
    assert learnt.images_of([now], root) == [now]


def test_images_of_several_categories_stay_apart(recipe: Recipe, photographs: Path) -> None:
    listed = [list_images(recipe, photographs, name) for name in recipe.categories]
    learnt = Learnt.of(listed, photographs)
    assert learnt.images_of(listed, photographs) == listed


@pytest.mark.parametrize("change", ["nothing", "removed", "added", "renamed"])
def test_images_that_were_learnt_are_never_unseen(own: Recipe, root: Path, change: str) -> None:
    """Half of what the new split tests on were learnt."""
    listed, learnt = learn(own, root)
    before = {path.read_bytes() for path in (*listed.fit, *listed.validation)}
    if change == "removed":
        listed.fit[0].unlink()
    elif change == "added":
        photograph(50).save(root / "good/000b.png")
    elif change == "renamed":
        for path in (*listed.fit, *listed.validation):
            path.rename(path.with_name(f"x{path.name}"))
    tests = list_test_images(own, root, "disc")
    unseen = learnt.unseen(tests, root)
    assert unseen == [test for test in tests if test.path.read_bytes() not in before]
    assert (len(unseen) < len(tests)) == (change != "nothing")
    assert sum(test.label for test in unseen) == 2


def test_other_picture_of_the_same_name_is_unseen(own: Recipe, root: Path) -> None:
    _, learnt = learn(own, root)
    for path in (root / "good").iterdir():
        photograph(1000 + int(path.stem)).save(path)
    tests = list_test_images(own, root, "disc")
    assert learnt.unseen(tests, root) == tests


@pytest.mark.parametrize("link", [False, True])
def test_copy_in_the_test_is_an_error_that_names_both(own: Recipe, root: Path, link: bool) -> None:
    listed, learnt = learn(own, root)
    copy = root / "test/scratch/copy.png"
    if link:
        copy.symlink_to(listed.fit[3])
    else:
        shutil.copy(listed.fit[3], copy)
    tests = list_test_images(own, root, "disc")
    with pytest.raises(ImageError) as caught:
        learnt.unseen(tests, root)
    for path in (copy, listed.fit[3]):
        assert str(path) in caught.value.problem


def test_copy_whose_original_is_gone_was_learnt(own: Recipe, root: Path) -> None:
    listed, learnt = learn(own, root)
    listed.fit[3].rename(root / "test/scratch/moved.png")
    tests = list_test_images(own, root, "disc")
    assert "moved.png" not in {test.path.name for test in learnt.unseen(tests, root)}


def test_test_image_that_cannot_be_read_is_left_to_its_reader(own: Recipe, root: Path) -> None:
    _, learnt = learn(own, root)
    os.mkfifo(root / "test/scratch/pipe.png")
    (root / "test/scratch/broken.png").symlink_to("nowhere")
    tests = list_test_images(own, root, "disc")
    assert {"pipe.png", "broken.png"} <= {test.path.name for test in learnt.unseen(tests, root)}


def test_image_of_both_kinds_is_an_error_that_names_it(own: Recipe, root: Path) -> None:
    both = own.override({"data.images.test_normal": "good/01*"})
    with pytest.raises(ImageError, match=r"good/010\.png is an image to learn from and also"):
        list_images(both, root, "disc")
    row = "good/{0:03d}.png,disc,{1},{2}\n"
    rows = [row.format(number, "good", "train") for number in range(6)]
    rows += [row.format(5, "good", "test"), "test/scratch/100.png,disc,bad,test\n"]
    (root / "parts.csv").write_text("".join(rows))
    table = {
        "layout": "table",
        "table": "parts.csv",
        "columns": ["image", "category", "label", "split"],
        **{column: column for column in ("image", "category", "label", "split")},
        "normal": "good",
        "anomalous": "bad",
    }
    with pytest.raises(ImageError, match=r"good/005\.png is an image to learn from and also"):
        list_test_images(own.override({"data.images": table}), root, "disc")


def test_record_is_plain_json(own: Recipe, root: Path) -> None:
    _, learnt = learn(own, root)
    write_json(root / LEARNT, learnt.model_dump())
    content = json.loads((root / LEARNT).read_text())
    assert content.keys() == {"fit", "validation"}
    assert str(root) not in (root / LEARNT).read_text()
