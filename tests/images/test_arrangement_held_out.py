"""Where no good images are set apart for the test, some of those to learn from are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.test_arrangement import purposes
from tests.images.trees import write_images

# Folders beside `good` of which some good images are held out for the test.
BESIDE: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "bad": (["bad/0.png"], {"bad": ["bad/0.png"]}),
    "NG": (["NG/0.png"], {"NG": ["NG/0.png"]}),
    "known kinds": (
        ["dent/0.png", "Scratch_2/1.png"],
        {"Scratch_2": ["Scratch_2/1.png"], "dent": ["dent/0.png"]},
    ),
    "kinds in bad": (
        ["bad/0.png", "bad/a/1.png", "bad/b/2.png"],
        {"bad": ["bad/0.png"], "a": ["bad/a/1.png"], "b": ["bad/b/2.png"]},
    ),
    "kinds and days in bad": (
        ["bad/a/day1/1.png", "bad/b/2.png"],
        {"a": ["bad/a/day1/1.png"], "b": ["bad/b/2.png"]},
    ),
    "days and views in bad": (["bad/day1/cam2/1.png"], {"bad": ["bad/day1/cam2/1.png"]}),
    "a kind with days": (["dent/day1/0.png"], {"dent": ["dent/day1/0.png"]}),
    "unlabelled test images": (["bad/0.png", "test/1.png"], {"bad": ["bad/0.png"]}),
    "unknown names, if there is a test": (
        ["old/0.png", "test/bad/1.png"],
        {"bad": ["test/bad/1.png"]},
    ),
}


@pytest.mark.parametrize("case", BESIDE)
@pytest.mark.parametrize("good", ["good", "OK"])
def test_some_good_images_are_held_out(case: str, good: str, tmp_path: Path) -> None:
    names, defects = BESIDE[case]
    write_images(tmp_path / "photos", *names, *(f"{good}/{number}.png" for number in range(10)))
    normal, _, tested, found = purposes(tmp_path / "photos")
    assert (len(normal), len(tested)) == (7, 3)
    assert all(name.startswith(f"{good}/") for name in normal + tested)
    assert found == defects


def test_defects_beside_images_that_lie_directly_inside(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"{number}.png" for number in range(10)), "nok/0.png", "day1/1.png")
    normal, _, tested, defects = purposes(root)
    assert (len(normal), len(tested), defects) == (7, 3, {"nok": ["nok/0.png"]})
    assert all("/" not in name for name in normal + tested)


def test_defects_among_those_to_learn_from_are_for_the_test_if_there_is_none(
    tmp_path: Path,
) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"train/good/{number}.png" for number in range(10)), "train/ng/0.png")
    normal, _, tested, defects = purposes(root)
    assert (len(normal), len(tested), defects) == (7, 3, {"ng": ["train/ng/0.png"]})
