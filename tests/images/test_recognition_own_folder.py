"""A folder of photographs needs no recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import TestImage
from sia_gen.images.listing import list_images
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import TREES, Tree, mvtec_ad, visa_folders, whole, write_images


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}{number}.png" for number in range(count)]


def names(paths: list[Path], root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths)


def test_images_directly_inside_are_the_normal_ones(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, *numbered("", 5))
    (root / "notes.txt").touch()
    recipe = recipe_for_folder(root)
    assert (recipe.name, recipe.categories, recipe.license) == ("photos", ["photos"], "other")
    images = list_images(recipe, root, "photos")
    assert names(images.fit + images.validation, root) == numbered("", 5)
    assert (images.test_normal, images.test_anomalous) == ([], [])


@pytest.mark.parametrize("normal", ["good/", "train/good/"])
@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_folders_are_found_with_test_and_masks(tmp_path: Path, normal: str, suffix: str) -> None:
    mask = f"ground_truth/scratch/0{suffix}.png"
    write_images(tmp_path, *numbered(normal, 4), *numbered("test/good/", 2))
    write_images(tmp_path, "test/scratch/0.png", "test/dent/1.png", mask)
    recipe = recipe_for_folder(tmp_path)
    images = list_images(recipe, tmp_path, *recipe.categories)
    assert names(images.fit + images.validation, tmp_path) == numbered(normal, 4)
    assert names(images.test_normal, tmp_path) == numbered("test/good/", 2)
    assert images.test_anomalous == [
        TestImage(tmp_path / "test/dent/1.png", "test/dent/1.png", "dent"),
        TestImage(
            tmp_path / "test/scratch/0.png", "test/scratch/0.png", "scratch", tmp_path / mask
        ),
    ]


def test_without_good_test_images_some_normal_ones_are_kept_for_it(tmp_path: Path) -> None:
    write_images(tmp_path, *numbered("good/", 10), "test/bad/0.png")
    recipe = recipe_for_folder(tmp_path)
    images = list_images(recipe, tmp_path, *recipe.categories)
    assert (len(images.fit + images.validation), len(images.test_normal)) == (7, 3)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Gears Line 4", "gears-line-4"),
        ("__x__", "x"),
        ("2024-05_photos", "2024-05_photos"),
        ("!!!", "images"),
        ("Zähler, Größe 2", "zahler-grosse-2"),
        ("部品", "images"),
        ("x" * 63 + " y" * 50, "x" * 63),
    ],
)
def test_name_is_that_of_the_folder_as_far_as_allowed(
    tmp_path: Path, folder: str, name: str
) -> None:
    write_images(tmp_path / folder, "0.png")
    recipe = recipe_for_folder(tmp_path / folder)
    assert (recipe.name, recipe.categories) == (name, [name])
    assert (recipe.source, recipe.title) == (folder, f"Images of {folder}")


def test_no_path_of_this_machine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "photos", "0.png")
    monkeypatch.chdir(tmp_path / "photos")
    recipe = recipe_for_folder(Path())
    assert recipe.name == "photos"
    assert str(tmp_path) not in recipe.to_yaml()
    assert recipe == recipe_for_folder(tmp_path / "photos")


@pytest.mark.parametrize(
    ("coloured", "mode"), [(None, "L"), (0, "RGB"), (1, "L"), (61, "L"), (62, "RGB")]
)
def test_mode_is_grey_if_the_images_looked_at_are(
    tmp_path: Path, coloured: int | None, mode: str
) -> None:
    # Of 63 images every second is looked at.
    for number in range(63):
        pixels = np.full((8, 8, 3), 90, np.uint8)
        pixels[3, 3, 0] += number == coloured
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    assert recipe_for_folder(tmp_path).mode == mode


@pytest.mark.parametrize(
    ("count", "size", "network"),
    [
        (3, (400, 300), ("small", 128)),
        (3, (128, 200), ("small", 128)),
        (3, (127, 200), ("small", 64)),
        (3, (10, 10), ("small", 32)),
        (500, (300, 300), ("base", 256)),
        (500, (300, 100), ("base", 64)),
    ],
)
def test_network_suits_the_number_and_size_of_the_images(
    tmp_path: Path, count: int, size: tuple[int, int], network: tuple[str, int]
) -> None:
    Image.new("L", size).save(tmp_path / "000.png")
    for number in range(1, count):
        (tmp_path / f"{number:03d}.png").hardlink_to(tmp_path / "000.png")
    diffusion = recipe_for_folder(tmp_path).diffusion
    assert (diffusion.preset, diffusion.image_size) == network


def test_recipe_survives_being_saved(tmp_path: Path) -> None:
    write_images(tmp_path, *numbered("good/", 3), "test/bad/0.png")
    recipe = recipe_for_folder(tmp_path)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("name", "tree"), [(name, tree) for name, trees in TREES.items() for tree in trees]
)
def test_known_data_set_is_sent_to_its_recipe(name: str, tree: Tree, tmp_path: Path) -> None:
    _, root = whole(name, tree, tmp_path)
    with pytest.raises(ImageError) as caught:
        recipe_for_folder(root)
    assert caught.value.fix == f"Give --recipe {name}."


def test_known_data_set_is_recognised_with_an_image_beside_it(tmp_path: Path) -> None:
    write_images(mvtec_ad(tmp_path, ["bottle"]), "overview.png")
    with pytest.raises(ImageError, match=r"looks like MVTec AD .*Give --recipe mvtec-ad\."):
        recipe_for_folder(tmp_path)


def test_known_data_set_inside_is_told(tmp_path: Path) -> None:
    visa_folders(tmp_path / "1cls", ["candle"])
    with pytest.raises(ImageError, match=rf"Give --recipe visa --data {tmp_path}/1cls\."):
        recipe_for_folder(tmp_path)


def test_folder_of_one_category_can_be_used_alone(tmp_path: Path) -> None:
    mvtec_ad(tmp_path, ["gear"])
    images = list_images(recipe_for_folder(tmp_path / "gear"), tmp_path / "gear", "gear")
    defects = [image.defect for image in images.test_anomalous]
    assert defects == ["broken_large", "broken_large", "contamination"]
    assert all(image.mask is not None for image in images.test_anomalous)


def test_folder_of_such_folders_is_told_to_give_one(tmp_path: Path) -> None:
    mvtec_ad(tmp_path, ["gear", "wheel"])
    with pytest.raises(ImageError, match=rf"no images in .* e\.g\. --data {tmp_path}/gear\."):
        recipe_for_folder(tmp_path)


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=rf"no images in {tmp_path}, nor in its folders good"):
        recipe_for_folder(tmp_path)
    with pytest.raises(ImageError, match="there is no image folder"):
        recipe_for_folder(tmp_path / "nowhere")


def test_damaged_images_are_named_together(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.png" for number in range(60)))
    (tmp_path / "0.png").write_text("not an image")
    with pytest.raises(ImageError, match=r"cannot read the image .*/0\.png"):
        recipe_for_folder(tmp_path)
    # Among these are some of those that are not sampled.
    for number in range(10, 20):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"11 of 60 good images .* cannot be read: .* 8 more"):
        recipe_for_folder(tmp_path)
