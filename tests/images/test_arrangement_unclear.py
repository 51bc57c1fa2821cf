"""What could mean several things is asked in one line, and what that says settles it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import write_images

GOOD = ["good/0.png", "good/1.png"]
# Folders, what the problem names with its number of images, and what the fix names.
UNCLEAR: dict[str, tuple[list[str], str, str]] = {
    "only defects": (["NG/0.png", "ng2/1.png"], "NG (1), ng2 (1)", "a folder 'good'"),
    "only defects to test": (["test/bad/0.png"], "test/bad (1)", "a folder 'good'"),
    "good in two places": (
        [*GOOD, "train/good/2.png"],
        "train/good (1) and in good (2)",
        "into one of these folders",
    ),
    "images in two folders around": (
        ["part1/0.png", "part2/1.png"],
        "part1 (1) and in part2 (1)",
        "one of",
    ),
    "an unknown name beside good": (
        [*GOOD, "day2/0.png"],
        "day2 (1)",
        "'good/day2', or defects to 'bad/day2'",
    ),
    "an unknown name beside known ones": (
        [*GOOD, "bad/0.png", "typ_a/1.png"],
        "typ_a (1)",
        "defects to 'bad/typ_a'",
    ),
    "several meanings": ([*GOOD, "good_old/2.png"], "good_old (1)", "'good/good_old'"),
    "an unknown name to learn from": (
        ["train/good/0.png", "train/typ_a/1.png"],
        "train/typ_a (1)",
        "'train/good/typ_a'",
    ),
    "unknown names beside images to learn from": (
        ["train/0.png", "train/day2/1.png", "test/bad/2.png"],
        "train/day2 (1)",
        "all good parts to 'train/good', or defects to 'test/bad/day2'",
    ),
    "numbers to test": (
        [*GOOD, "test/0/0.png", "test/1/1.png"],
        "test/0 (1), test/1 (1)",
        "'good'",
    ),
    "good or not to test": ([*GOOD, "test/good_new/0.png"], "test/good_new (1)", "'good'"),
    "defects in good": (
        ["good/0.png", "good/bad/1.png"],
        "good/bad (1)",
        "good parts to 'good', or defects to 'bad'",
    ),
    "doubts in good": (
        ["good/0.png", "good/maybe_bad/1.png"],
        "good/maybe_bad (1)",
        "good parts to 'good', or defects to 'bad/maybe_bad'",
    ),
    "defects in good, at any depth": (
        ["good/day1/0.png", "good/ng/1.png", "test/bad/2.png"],
        "good/ng (1)",
        "Move good/ng out",
    ),
    "defects in validation alone": (
        ["train/good/0.png", "val/bad/1.png"],
        "val/bad (1)",
        "Rename 'val' to 'test'",
    ),
    "defects in a folder of another name": (
        ["train/good/0.png", "checked/good/1.png", "checked/bad/2.png"],
        "checked (1), which may be for the test",
        "Rename 'checked' to 'test'",
    ),
    "very many folders": (
        [*GOOD, *(f"rack {number:02}/0.png" for number in range(60))],
        "rack 06 (1), rack 07 (1) and 52 more, which may be",
        "'good/rack 00'",
    ),
    "unknown names alone": (["day1/0.png", "day2/1.png"], "day1 (1), day2 (1)", "'good'"),
    "an unknown name alone": (["photos2a/0.png"], "photos2a (1)", "--data /"),
    "several products": (
        ["gear/good/0.png", "wheel/train/ok/1.png"],
        "folders gear, wheel",
        "gear",
    ),
    "products within splits": (
        [f"{split}/gear/good/{n}.png" for n, split in enumerate(("train", "test"))],
        "folders test/gear, train/gear",
        "into one, such as 'gear/test/good'",
    ),
    "only what is to test": (
        ["test/good/0.png", "test/good/1.png", "test/bad/2.png"],
        "folder test",
        "Give it with --data /",
    ),
    "one folder too high": (
        ["gear/good/0.png", "old/1.png"],
        "folder gear",
        "Give it with --data /",
    ),
    "views of several days": (
        [f"2024-05-1{day}/Los 1/cam{n}/OK/{n}.png" for day in (3, 4) for n in (1, 2)],
        "2024-05-13/Los 1/cam1, 2024-05-13/Los 1/cam2, 2024-05-14/Los 1/cam1 and 1 more",
        "/2024-05-13/Los 1/cam1', or a recipe with 'normal: **/cam1/OK/*'",
    ),
    "several classes of a set": (["Class1/Train/0.png", "Class2/Train/1.png"], "Class1", "Class1"),
    "unknown names with good and bad": (
        ["good/0.png", "test/gear/good/1.png"],
        "test/gear/good (1)",
        "good",
    ),
    "views": (["front/OK/0.png", "back/OK/1.png"], "folders back, front", "one folder"),
    "numbers": (["1/OK/0.png", "2/OK/1.png"], "folders 1, 2", "one folder"),
    "masks in place of images": (
        ["x/0.png", "x/0_mask.png", "y/1.png", "1_mask.png"],
        "x (1), y (1)",
        "'good'",
    ),
    "names of files": (
        ["OK_0001.png", "NG_0001.png", "NG_0002.png"],
        "2 of these 3 call them defects, such as NG_0001.png",
        "'bad'",
    ),
    "names of files to learn from": (
        ["training/good.1a2b.png", "training/anomaly.1a2c.png", "testing/good.3.png"],
        "1 of these 2 call them defects, such as training/anomaly.1a2c.png",
        "'bad'",
    ),
    "good ones in names of files": (
        ["0_OK.png", "1_OK.png", "2.png"],
        "2 of these 3 call them good parts, such as 0_OK.png",
        "'good'",
    ),
    "unknown names to test, without good ones": (
        ["train/good/0.png", "test/typ_a/1.png", "test/bad/2.png"],
        "test/typ_a (1)",
        "'test/bad/typ_a'",
    ),
    "times and views to test": (
        ["train/good/0.png", "test/good/1.png", "test/day2/2.png", "test/2024-05-13/3.png"],
        "test/2024-05-13 (1), test/day2 (1)",
        "'test/bad/2024-05-13'",
    ),
    "doubts to test": (
        ["train/good/0.png", "test/good/1.png", "test/review/2.png", "test/false_ng/3.png"],
        "test/false_ng (1), test/review (1)",
        "'test/bad/false_ng'",
    ),
    "names of files that say it of all": (["NG_1.png", "NG_2.png"], "2 of these 2", "'bad'"),
    "kinds in names of files": (
        ["scratch_1.png", "cell_2.png"],
        "1 of these 2 call them defects, such as scratch_1.png",
        "'bad'",
    ),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_is_unclear_is_asked_in_one_line(case: str, tmp_path: Path) -> None:
    names, problem, fix = UNCLEAR[case]
    write_images(tmp_path, *names)
    with pytest.raises(ImageError) as caught:
        recipe_for_folder(tmp_path)
    assert problem in caught.value.problem
    assert fix.lower() in caught.value.fix.lower()
    assert "\n" not in str(caught.value)


# What the fix says, done.
SETTLED = {
    "an unknown name beside good": ("day2", "good/day2"),
    "several meanings": ("good_old", "test/bad/good_old"),
    "an unknown name to learn from": ("train/typ_a", "test/bad/typ_a"),
    "good in two places": ("train/good/2.png", "good/2.png"),
    "numbers to test": ("test/0", "test/good"),
    "unknown names to test, without good ones": ("test/typ_a", "test/bad/typ_a"),
    "defects in good, at any depth": ("good/ng", "ng"),
    "defects in validation alone": ("val", "test"),
    "defects in a folder of another name": ("checked", "test"),
    "only defects": ("NG", "good"),
    "names of files that say it of all": ("NG_1.png", "bad/NG_1.png"),
}


@pytest.mark.parametrize("case", SETTLED)
def test_the_fix_settles_it(case: str, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, *UNCLEAR[case][0])
    old, new = SETTLED[case]
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    (root / old).rename(root / new)
    if case == "names of files that say it of all":
        write_images(root, "good/0.png", "good/1.png")
    if case == "numbers to test":
        (root / "test/1").rename(root / "test/crack")
    assert recipe_for_folder(root).data.images.normal


def test_folder_of_defects_alone_is_asked_about(tmp_path: Path) -> None:
    write_images(tmp_path, "photos/NG/0.png", "photos/NG/1.png", "photos/OK/2.png")
    with pytest.raises(ImageError, match="NG is named as a folder of defects") as caught:
        recipe_for_folder(tmp_path / "photos/NG")
    assert f"--data {tmp_path / 'photos'}," in caught.value.fix
    assert recipe_for_folder(tmp_path / "photos/OK").data.images.normal == "*"
