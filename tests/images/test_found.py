"""What is found in a folder, and what is passed over, in numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.found import Found, report, require_unseen, survey
from sia_gen.images.listing import split_images
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.io.locks import working_on
from tests.images.trees import mvtec_ad, visa_table, write_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a bit of everything."""
    root = tmp_path / "photos"
    write_images(root, *(f"train/good/{number}.png" for number in range(10)))
    write_images(root, "test/good/0.png", *(f"test/dent/{number}.png" for number in range(3)))
    write_images(root, "test/hole/a.png", "ground_truth/dent/0_mask.png", "overview.png")
    write_images(root, "ground_truth/dent/x_mask.png", "old/day1/1.png", "old/day1/2.png")
    for name in ("readme.txt", "a/b.TXT", "train/good/Thumbs.db", "train/.DS_Store", "film.MP4"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "test/.ipynb_checkpoints").mkdir()
    (root / "LICENSE").touch()
    write_images(root, "runs/heatmaps/0.png")
    with working_on(root / "runs", "predictions"):
        pass
    return root


EXPECTED = Found(
    fit=9,
    validation=1,
    test_normal=1,
    test_anomalous=4,
    masks=1,
    defects={"dent": 3, "hole": 1},
    passed_over={
        ".txt": 2,
        "files without an extension": 1,
        "hidden": 3,
        "images beside the folders": 1,
        "images in old/day1": 2,
        "masks": 1,
        "outputs of sia-gen": 1,
        "videos": 1,
    },
)


def test_everything_in_a_folder_is_counted_once(root: Path) -> None:
    found = survey(recipe_for_folder(root), root, "photos")
    assert found == EXPECTED
    files = [path for path in root.rglob("*") if path.is_file() and "runs" not in path.parts]
    others = sum(found.passed_over.values())
    # A hidden folder and an output count as one each.
    assert found.fit + found.validation + 1 + 4 + 1 + others == len(files) + 2


def test_duplicates_are_passed_over(root: Path) -> None:
    for number in range(3):
        copy = root / f"train/good/{number} (1).png"
        copy.write_bytes((root / f"train/good/{number}.png").read_bytes())
    found = survey(recipe_for_folder(root), root, "photos")
    assert found.fit + found.validation == EXPECTED.fit + EXPECTED.validation
    assert found.passed_over == {**EXPECTED.passed_over, "duplicates": 3}
    assert ", 3 duplicates," in str(found)


def test_line_says_it_all() -> None:
    line = str(EXPECTED)
    for part in (
        "good images to learn from: 9, to validate: 1;",
        "to evaluate on: 1 good, 4 defective (3 dent, 1 hole), masks: 1;",
        "passed over: 2 .txt, 1 file without an extension, 3 hidden, 1 image beside the folders",
        "2 images in old/day1, 1 mask, 1 output of sia-gen, 1 video",
    ):
        assert part in line
    assert "passed over" not in str(Found(1, 1, 0, 0, 0, {}, {}))
    many = Found(1, 1, 0, 0, 0, {}, {".txt": 2, **{f"images in old/{day}": 1 for day in range(9)}})
    assert "passed over: 2 .txt, 9 images in 9 folders such as old/0" in str(many)
    many = Found(1, 1, 0, 30, 0, {f"kind {number:02}": 1 for number in range(30)}, {})
    assert "1 kind 18, 1 kind 19 and 10 more kinds), masks" in str(many)


def test_counts_can_be_written_as_json() -> None:
    assert asdict(EXPECTED)["passed_over"]["hidden"] == 3


def test_other_categories_are_not_passed_over(tmp_path: Path) -> None:
    mvtec_ad(tmp_path, ["bottle", "cable"])
    found = survey(Recipe.load("mvtec-ad"), tmp_path, "bottle")
    assert found.passed_over == {".txt": 2}
    assert (found.masks, found.defects) == (3, {"broken_large": 2, "contamination": 1})


def test_a_table_and_its_images_are_used(tmp_path: Path) -> None:
    visa_table(tmp_path, ["candle"])
    found = survey(Recipe.load("visa"), tmp_path, "candle")
    assert (found.fit, found.validation, found.test_normal) == (3, 1, 1)
    assert (found.masks, found.passed_over) == (1, {})


def test_several_masks_of_an_image_are_used(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"good/{n}.png" for n in range(9)), "test/good/9.png", "test/x/0.png")
    write_images(tmp_path, "ground_truth/x/0/0.png", "ground_truth/x/0/1.png")
    found = survey(recipe_for_folder(tmp_path), tmp_path, recipe_for_folder(tmp_path).name)
    assert (found.masks, found.passed_over) == (1, {})


def test_report_warns_of_one_image_in_two_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"good/{number}.png" for number in range(9)), "test/bad/3.png")
    write_images(root, "test/good/x.png")
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(path.read_bytes() + b"%d" % number)
    (root / "test/bad/3.png").write_bytes((root / "good/3.png").read_bytes())
    (root / "test/bad/4.png").write_bytes((root / "good/3.png").read_bytes()[:-1] + b"?")
    recipe = recipe_for_folder(root)
    report(recipe, root, ["photos"])
    found, warning = capsys.readouterr().err.splitlines()
    assert found == f"photos: {survey(recipe, root, 'photos')}."
    assert f"1 image to evaluate on also among those to learn from, the first {root}" in warning
    assert "test/bad/3.png" in warning
    (root / "test/good/3.png").write_bytes((root / "test/bad/4.png").read_bytes())
    report(recipe, root, ["photos"])
    warning = capsys.readouterr().err.splitlines()[-1]
    assert f"{root}/test/good/3.png is among the good images to evaluate on" in warning
    assert f"the same as {root}/test/bad/4.png among the defective ones" in warning
    monkeypatch.setenv("RANK", "1")
    report(recipe, root, ["photos"])
    assert capsys.readouterr().err == ""


def test_copies_under_other_names_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"good/{number}.png" for number in range(9)), "test/good/x.png")
    write_images(root, "test/bad/y.png")
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(path.read_bytes() + b"%d" % number)
    recipe = recipe_for_folder(root)
    require_unseen(split_images(recipe, root, "photos"))
    (root / "test/good/copy of 3.png").write_bytes((root / "good/3.png").read_bytes())
    with pytest.raises(ImageError, match=r"1 image to evaluate on .* is the same as .*3\.png"):
        require_unseen(split_images(recipe, root, "photos"))
    # One in the middle of which nothing differs.
    content = (root / "good/3.png").read_bytes()
    (root / "test/good/copy of 3.png").write_bytes(content[:-1] + b"?")
    require_unseen(split_images(recipe, root, "photos"))
