"""Masks that nearly fit an image, or are not the only ones of it, are asked about."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.recognition import recipe_for_folder
from tests.images.test_mask_patterns import GOOD, found_masks
from tests.images.trees import write_images

# Images of defects, masks, what the problem says, and what the fix says, done: a file that moves.
NEARLY: dict[str, tuple[list[str], list[str], str, tuple[str, str] | None]] = {
    "two folders of masks": (
        ["test/dent/0.png"],
        ["ground_truth/dent/0_mask.png", "fg_mask/test/dent/0.png"],
        "has more than one mask: .*fg_mask.* and .*ground_truth",
        ("fg_mask", ".fg_mask"),
    ),
    "two folders of masks of all kinds": (
        ["bad/0.png"],
        ["masks/0.png", "gt/0.png"],
        "has more than one mask",
        ("gt", ".gt"),
    ),
    "capitals in a folder": (
        ["test/Dent/0.png", "test/hole/0.png"],
        ["ground_truth/dent/0.png", "ground_truth/hole/0.png"],
        "ground_truth/dent/0.png and of the image .*test/Dent/0.png differ in capitals",
        ("ground_truth/dent", "ground_truth/Dent"),
    ),
    "capitals in a file": (
        ["bad/IMG_0.png", "bad/1.png"],
        ["masks/img_0_mask.png", "masks/1_mask.png"],
        "img_0_mask.png and of the image .*IMG_0.png differ in capitals",
        ("masks/img_0_mask.png", "masks/IMG_0_mask.png"),
    ),
    "accents": (
        [unicodedata.normalize("NFC", "bad/Prüfung.png")],
        [unicodedata.normalize("NFD", "masks/Prüfung.png")],
        "or in how accents are stored",
        None,
    ),
    "several masks of an image": (
        ["bad/0.png"],
        ["masks/0_mask.png", "masks/0_mask_1.png"],
        "masks/0_mask_1.png may be one of several masks of .*bad/0.png",
        None,
    ),
    "several masks of each image": (
        ["bad/0.png"],
        ["masks/0 (1).png", "masks/0 (2).png"],
        r"masks/0 \(1\).png may be one of several masks of .*bad/0.png",
        None,
    ),
}


@pytest.mark.parametrize("case", NEARLY)
def test_masks_that_nearly_fit_are_asked_about(case: str, tmp_path: Path) -> None:
    images, masks, problem, moved = NEARLY[case]
    write_images(tmp_path, *GOOD, "test/good/0.png", *images, *masks)
    with pytest.raises(ImageError, match=problem):
        recipe_for_folder(tmp_path)
    if moved is not None:
        (tmp_path / moved[0]).rename(tmp_path / moved[1])
        assert all(found_masks(tmp_path).values())


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    Image.fromarray(values).save(path)


def test_photographs_that_are_named_as_masks_beside_others(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD)
    photograph(tmp_path / "good/0_label.png")
    with pytest.raises(
        ImageError, match=r"0_label\.png is named as the mask of an image"
    ) as caught:
        recipe_for_folder(tmp_path)
    assert "without '_label'" in caught.value.fix


@pytest.mark.parametrize("folder", ["solder_mask_damage", "test/solder mask", "test/label"])
def test_photographs_in_a_folder_that_is_named_as_one_of_masks(folder: str, tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "test/good/0.png", "test/scratch/0.png")
    photograph(tmp_path / folder / "0.png")
    with pytest.raises(
        ImageError, match=r"is named as one of masks, but 0\.png has as many levels"
    ):
        recipe_for_folder(tmp_path)
    # What cannot be read is none either, and its image says so.
    content = (tmp_path / folder / "0.png").read_bytes()
    (tmp_path / folder / "0.png").write_bytes(b"")
    assert recipe_for_folder(tmp_path)
    (tmp_path / folder / "0.png").write_bytes(content)
    (tmp_path / folder).rename(tmp_path / "test/damage")
    assert found_masks(tmp_path) == {"test/damage/0.png": None, "test/scratch/0.png": None}


def test_numbered_masks_are_united_where_the_fix_says(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/0.png", "masks/0_mask_1.png", "masks/0_mask_2.png")
    with pytest.raises(ImageError, match=r"such as .*masks/0/0_mask_1\.png\.$"):
        recipe_for_folder(tmp_path)
    (tmp_path / "masks/0").mkdir()
    for number in (1, 2):
        name = f"0_mask_{number}.png"
        (tmp_path / "masks" / name).rename(tmp_path / "masks/0" / name)
    assert found_masks(tmp_path) == {"bad/0.png": "masks/0"}
