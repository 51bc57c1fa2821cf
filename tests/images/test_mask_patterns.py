"""Masks are found wherever they usually lie, and what fits nothing is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import split_images
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import write_images

TRAIN = [f"train/good/{number}.png" for number in range(4)]
GOOD = [f"good/{number}.png" for number in range(10)]
TESTS = ["test/good/0.png", "test/dent/0.png", "test/scratch/0.png", "test/scratch/1.png"]


def found_masks(root: Path) -> dict[str, str | None]:
    """The mask of each anomalous image, with a recipe that was saved and read again."""
    made = recipe_for_folder(root)
    recipe = Recipe.parse(made.model_dump(mode="json"), where="test")
    images = split_images(recipe, root, recipe.categories[0])

    def below(path: Path) -> str:
        return path.relative_to(root).as_posix()

    # No mask is taken for an image.
    everything = [*images.fit, *images.validation, *images.test_normal]
    assert not any("mask" in path.name or "GT" in path.name for path in everything)
    return {below(one.path): one.mask and below(one.mask) for one in images.test_anomalous}


# Where the masks of two kinds of defects lie.
FOLDERS = {
    "ground_truth/dent/0_mask.png": "ground_truth/scratch/0_mask.png",
    "ground_truth/dent/0.png": "ground_truth/scratch/0.png",
    "GroundTruth/dent/0_Mask.bmp": "GroundTruth/scratch/0_Mask.bmp",
    "gt/dent/0.jpg": "gt/scratch/0.tif",
    "masks/dent/0-mask.png": "masks/scratch/0-mask.png",
    "labels/dent/0_label.PNG": "labels/scratch/0_label.PNG",
    "masks/test/dent/0.png": "masks/test/scratch/0.png",
    "test/masks/dent/0.png": "test/masks/scratch/0.png",
    "test/dent/masks/0.png": "test/scratch/masks/0.png",
    "test/dent/0_GT.png": "test/scratch/0_GT.png",
    "test/dent/0_mask.bmp": "test/scratch/0_mask.bmp",
}


@pytest.mark.parametrize(("dent", "scratch"), FOLDERS.items())
def test_masks_by_defect(dent: str, scratch: str, tmp_path: Path) -> None:
    write_images(tmp_path, *TRAIN, *TESTS, dent, scratch)
    assert found_masks(tmp_path) == {
        "test/dent/0.png": dent,
        "test/scratch/0.png": scratch,
        "test/scratch/1.png": None,
    }


@pytest.mark.parametrize(
    "mask",
    [
        "masks/7.png",
        "gt/7_mask.tif",
        "Label/7_label.PNG",
        "masks/7_segmentation.png",
        "bad/7_GT.png",
    ],
)
def test_flat_masks(mask: str, tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/7.png", "bad/8.png", mask)
    assert found_masks(tmp_path) == {"bad/7.png": mask, "bad/8.png": None}


# Images, and masks in folders that have the same names again, or lie beside those of the images.
AGAIN = {
    "images/test/dent/0.png": "masks/test/dent/0.png",
    "test/dent/0.png": "test/dent_mask/0.png",
    "test/bad/0.png": "test/label/0.png",
    "bad/dent/0.png": "bad/masks/dent/0_mask.png",
    "bad/images/0.png": "bad/masks/0.png",
    "test/bad/typ_a/0.png": "ground_truth/bad/typ_a/0.png",
    "bad/0.png": "annotations/masks/bad/0.png",
    "test/dent/1.png": "labels/dent/masks/1.png",
}


@pytest.mark.parametrize(("image", "mask"), AGAIN.items())
def test_masks_in_folders_as_those_of_images(image: str, mask: str, tmp_path: Path) -> None:
    top, *_ = image.partition("/")
    around = {"images": ["images/train/good", "images/test/good"], "test": ["good", "test/good"]}
    for folder in around.get(top, ["good"]):
        write_images(tmp_path, *(f"{folder}/{number}.png" for number in range(4)))
    write_images(tmp_path, image, mask)
    assert found_masks(tmp_path) == {image: mask}


@pytest.mark.parametrize("around", ["", "test/"])
@pytest.mark.parametrize("masks", ["{}_mask", "masks {}", "{} GT [1]"])
def test_masks_in_folders_that_are_named_after_defects(
    masks: str, around: str, tmp_path: Path
) -> None:
    pairs = {
        f"{around}{kind}/{n}.png": f"{around}{masks.format(kind)}/{n}.png"
        for kind in ("dent", "scratch")
        for n in range(2)
    }
    write_images(tmp_path, *GOOD, *pairs, *pairs.values())
    assert found_masks(tmp_path) == pairs


def test_masks_in_folders_that_are_named_after_defects_of_days(tmp_path: Path) -> None:
    pairs = {f"2024-05-1{day}/NG/0.png": f"2024-05-1{day}/NG_masks/0.png" for day in range(2)}
    good = [f"2024-05-10/OK/{number}.png" for number in range(4)]
    write_images(tmp_path, *good, *pairs, *pairs.values())
    assert found_masks(tmp_path) == pairs


def test_masks_of_images_in_days(tmp_path: Path) -> None:
    days = {f"test/dent/day{n}/0.png": f"masks/dent/day{n}/0_mask.png" for n in (1, 2)}
    write_images(tmp_path, *TRAIN, *days, *days.values())
    assert found_masks(tmp_path) == days


def test_several_masks_of_an_image_are_a_folder(tmp_path: Path) -> None:
    """As MVTec LOCO AD has them."""
    kinds = ["logical_anomalies", "structural_anomalies"]
    masks = {f"test/{kind}/000.png": f"ground_truth/{kind}/000" for kind in kinds}
    parts = [f"{folder}/{number:03d}.png" for folder in masks.values() for number in range(2)]
    write_images(tmp_path, *TRAIN, "validation/good/0.png", "test/good/0.png", *masks, *parts)
    assert found_masks(tmp_path) == masks


@pytest.mark.parametrize(
    "stray", ["ground_truth/dent/overview.png", "ground_truth/x.png", "ground_truth/dent/1.png"]
)
def test_stray_file_switches_nothing_off(stray: str, tmp_path: Path) -> None:
    mask = "ground_truth/scratch/0_mask.png"
    write_images(tmp_path, *TRAIN, *TESTS, mask, stray)
    assert found_masks(tmp_path)["test/scratch/0.png"] == mask


def test_copy_of_the_image_among_masks_is_none(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/0.png", "masks/0.png", "masks/0_mask.png")
    assert found_masks(tmp_path) == {"bad/0.png": "masks/0_mask.png"}


def test_folder_of_masks_of_which_none_fits_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/a.png", "masks/b.png")
    with pytest.raises(ImageError) as caught:
        recipe_for_folder(tmp_path)
    assert str(tmp_path / "bad/a.png") in caught.value.problem
    assert str(tmp_path / "masks/b.png") in caught.value.problem
    (tmp_path / "masks/b.png").rename(tmp_path / "masks/a_mask.png")
    assert found_masks(tmp_path) == {"bad/a.png": "masks/a_mask.png"}


def test_masks_that_fit_nothing_are_shown_beside_an_image_of_their_kind(tmp_path: Path) -> None:
    write_images(tmp_path, *TRAIN, *TESTS, "ground_truth/scratch/mask_0.png")
    with pytest.raises(ImageError, match=r"mask_0\.png is a mask, .*test/scratch/0\.png an image"):
        recipe_for_folder(tmp_path)


def test_masks_that_no_longer_fit_a_recipe_are_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/a.png", "masks/a.png")
    recipe = recipe_for_folder(tmp_path)
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/b.png")
    with pytest.raises(ImageError, match=r"masks/b\.png is a mask, .*bad/a\.png an image without"):
        split_images(recipe, tmp_path, recipe.categories[0])
    (tmp_path / "masks/b.png").unlink()
    assert split_images(recipe, tmp_path, recipe.categories[0]).test_anomalous[0].mask is None


def test_two_masks_or_two_images_of_a_mask_are_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, *GOOD, "bad/0.png", "masks/0.png", "masks/0.bmp")
    with pytest.raises(ImageError, match=r"has more than one mask: .*0\.bmp and .*0\.png"):
        recipe_for_folder(tmp_path)
    (tmp_path / "masks/0.bmp").unlink()
    write_images(tmp_path, "dent/0.png")
    with pytest.raises(ImageError, match=r"masks/0\.png may be the mask of .*bad/0\.png or of"):
        recipe_for_folder(tmp_path)


def test_masks_of_good_images_are_not_looked_at(tmp_path: Path) -> None:
    write_images(tmp_path, *TRAIN, *TESTS, "ground_truth/good/0_mask.png", "train/good/0_mask.png")
    write_images(tmp_path, "ground_truth/scratch/1_mask.png")
    assert found_masks(tmp_path)["test/scratch/1.png"] == "ground_truth/scratch/1_mask.png"


def mark(path: Path, *, marked: bool) -> None:
    pixels = np.zeros((12, 16), np.uint8)
    pixels[3:6, 3:6] = 255 * marked
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def labelled(root: Path) -> tuple[list[str], list[str], list[TestImage]]:
    recipe = recipe_for_folder(root)
    images = split_images(recipe, root, recipe.categories[0])
    names = [
        sorted(path.relative_to(root).as_posix() for path in paths)
        for paths in ([*images.fit, *images.validation], images.test_normal)
    ]
    return names[0], names[1], images.test_anomalous


def test_masks_beside_images_tell_which_are_defective(tmp_path: Path) -> None:
    """As KolektorSDD2 has them: a mask for each image, most of them black."""
    for folder in ("train", "test"):
        for number in range(4):
            write_images(tmp_path, f"{folder}/{number}.png")
            mark(tmp_path / f"{folder}/{number}_GT.png", marked=number == 2)
    normal, tested, defects = labelled(tmp_path)
    assert normal == ["train/0.png", "train/1.png", "train/3.png"]
    assert tested == ["test/0.png", "test/1.png", "test/3.png"]
    assert [(one.name, one.defect) for one in defects] == [("test/2.png", "defect")]
    assert defects[0].mask == tmp_path / "test/2_GT.png"


def test_masks_of_the_defective_alone_tell_which_they_are(tmp_path: Path) -> None:
    """As DAGM has them."""
    for folder in ("Train", "Test"):
        write_images(tmp_path, *(f"{folder}/{number:04d}.PNG" for number in range(4)))
        mark(tmp_path / f"{folder}/Label/0003_label.PNG", marked=True)
        (tmp_path / folder / "Label/Labels.txt").write_text("1")
    normal, tested, defects = labelled(tmp_path)
    assert normal == [f"Train/000{number}.PNG" for number in range(3)]
    assert tested == [f"Test/000{number}.PNG" for number in range(3)]
    assert [one.mask for one in defects] == [tmp_path / "Test/Label/0003_label.PNG"]


def test_masks_in_a_folder_beside_the_images_tell_it_too(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"images/{number}.png" for number in range(11)))
    mark(tmp_path / "masks/4.png", marked=True)
    mark(tmp_path / "masks/5.png", marked=False)
    normal, tested, defects = labelled(tmp_path)
    # Some of the good ones are held out.
    assert (len(normal), len(tested)) == (7, 3)
    assert [one.name for one in defects] == ["images/4.png"]


def test_masks_beside_folders_of_images_tell_it_by_the_folder_around(tmp_path: Path) -> None:
    for folder, defective in (("train", 1), ("val", 2), ("test", 3)):
        for number in range(4):
            write_images(tmp_path, f"{folder}/images/{number}.png")
            mark(tmp_path / f"{folder}/masks/{number}.png", marked=number == defective)
    normal, tested, defects = labelled(tmp_path)
    assert normal == [f"train/images/{n}.png" for n in (0, 2, 3)] + [
        f"val/images/{n}.png" for n in (0, 1, 3)
    ]
    assert tested == [f"test/images/{n}.png" for n in range(3)]
    assert [one.mask for one in defects] == [tmp_path / "test/masks/3.png"]


def test_masks_in_folders_of_parts_tell_it_too(tmp_path: Path) -> None:
    """As KolektorSDD has them."""
    for folder in ("kos01", "kos02"):
        for number in range(6):
            write_images(tmp_path, f"{folder}/Part{number}.jpg")
            mark(tmp_path / f"{folder}/Part{number}_label.bmp", marked=number == 5)
    normal, tested, defects = labelled(tmp_path)
    assert (len(normal), len(tested)) == (7, 3)
    assert [one.name for one in defects] == ["kos01/Part5.jpg", "kos02/Part5.jpg"]


def test_test_images_without_masks_stay_out_of_it(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"Train/{number}.png" for number in range(11)), "Test/0.png")
    mark(tmp_path / "Train/Label/7_label.png", marked=True)
    normal, tested, defects = labelled(tmp_path)
    assert (len(normal), len(tested)) == (7, 3)
    assert [one.name for one in defects] == ["Train/7.png"]


def test_masks_that_all_mark_something_are_told(tmp_path: Path) -> None:
    for number in range(3):
        write_images(tmp_path, f"{number}.png")
        mark(tmp_path / f"masks/{number}.png", marked=True)
    recipe = recipe_for_folder(tmp_path)
    with pytest.raises(ImageError, match="mark something, so none is normal"):
        split_images(recipe, tmp_path, recipe.categories[0])


def test_labels_follow_a_mask_that_changes(tmp_path: Path) -> None:
    write_images(tmp_path, "0.png", "1.png", "2.png")
    mark(tmp_path / "masks/0.png", marked=True)
    assert len(labelled(tmp_path)[2]) == 1
    (tmp_path / "masks/0.png").unlink()
    mark(tmp_path / "masks/0.png", marked=False)
    assert labelled(tmp_path)[2] == []
