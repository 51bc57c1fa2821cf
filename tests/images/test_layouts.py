"""Every data set is read from exactly the folders and tables it comes in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.data import FolderLayout
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, RecipeError
from sia_gen.images import files
from sia_gen.images.layouts import layout_fits, name_below, read_layout
from sia_gen.images.listing import CategoryImages, list_images
from tests.images.trees import (
    TREES,
    Tree,
    btad,
    mvtec_ad,
    visa_folders,
    visa_ok_ko,
    visa_table,
    whole,
    write_images,
)

ARRANGEMENTS = [(name, tree) for name, trees in TREES.items() for tree in trees]


def below(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def normal(root: Path, images: CategoryImages) -> list[str]:
    return below(root, sorted(images.fit + images.validation))


def truth(root: Path, images: CategoryImages) -> list[tuple[str, str, str | None]]:
    def name(path: Path | None) -> str | None:
        return path and path.relative_to(root).as_posix()

    return [(name(one.path), one.defect, name(one.mask)) for one in images.test_anomalous]


def changed(recipe: Recipe, **data: Any) -> Recipe:
    content = recipe.model_dump(mode="json")
    content["data"].update(data)
    return Recipe.parse(content, where="test")


@pytest.mark.parametrize(("name", "tree"), ARRANGEMENTS)
def test_every_category_is_found_with_its_masks(name: str, tree: Tree, tmp_path: Path) -> None:
    recipe, root = whole(name, tree, tmp_path)
    for category in recipe.categories:
        images = list_images(recipe, root, category)
        assert len(images.fit + images.validation) == 4
        assert len(images.test_normal) == 1
        assert images.test_anomalous
        anomalous = [path for one in images.test_anomalous for path in (one.path, one.mask)]
        everything = [*images.test_normal, *anomalous]
        assert all(path is not None and path.is_file() for path in everything)
        assert all(category in path.parts for path in images.fit)


def test_mvtec_ad(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path, ["bottle"])
    images = list_images(Recipe.load("mvtec-ad"), root, "bottle")
    assert normal(root, images) == [f"bottle/train/good/00{number}.png" for number in range(4)]
    assert below(root, images.test_normal) == ["bottle/test/good/000.png"]
    assert truth(root, images) == [
        (f"bottle/test/{defect}/{n}.png", defect, f"bottle/ground_truth/{defect}/{n}_mask.png")
        for defect, n in [
            ("broken_large", "000"),
            ("broken_large", "001"),
            ("contamination", "000"),
        ]
    ]


def test_visa_by_its_table(tmp_path: Path) -> None:
    root = visa_table(tmp_path, ["candle", "pcb1"])
    images = list_images(Recipe.load("visa"), root, "pcb1")
    folder = "pcb1/Data/Images"
    assert normal(root, images) == [f"{folder}/Normal/000{number}.JPG" for number in (0, 1, 3, 4)]
    assert below(root, images.test_normal) == [f"{folder}/Normal/0002.JPG"]
    mask = "pcb1/Data/Masks/Anomaly/000.png"
    assert truth(root, images) == [(f"{folder}/Anomaly/000.JPG", "anomaly", mask)]


@pytest.mark.parametrize(
    ("tree", "defect"), [(visa_folders, "bad"), (visa_ok_ko, "ko")], ids=["good/bad", "ok/ko"]
)
def test_visa_in_folders(tmp_path: Path, tree: Tree, defect: str) -> None:
    root = tree(tmp_path, ["pcb1"])
    images = list_images(Recipe.load("visa"), root, "pcb1")
    mask = f"pcb1/ground_truth/{defect}/000.png"
    assert truth(root, images) == [(f"pcb1/test/{defect}/000.JPG", defect, mask)]


@pytest.mark.parametrize(
    ("category", "image", "mask"),
    [("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")],
)
def test_btad_with_its_mixed_formats(tmp_path: Path, category: str, image: str, mask: str) -> None:
    root = btad(tmp_path, [category])
    images = list_images(Recipe.load("btad"), root, category)
    assert truth(root, images) == [
        (
            f"{category}/test/ko/{number}.{image}",
            "ko",
            f"{category}/ground_truth/ko/{number}.{mask}",
        )
        for number in ("0000", "0001")
    ]


def test_image_without_a_mask_has_none(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path, ["bottle"])
    (root / "bottle/ground_truth/broken_large/001_mask.png").unlink()
    images = list_images(Recipe.load("mvtec-ad"), root, "bottle")
    assert [one.mask is None for one in images.test_anomalous] == [False, True, False]


def test_two_masks_of_an_image_are_an_error(tmp_path: Path) -> None:
    root = btad(tmp_path, ["01"])
    write_images(root, "01/ground_truth/ko/0001.bmp")
    with pytest.raises(ImageError, match=r"0001\.bmp has more than one mask: .*0001\.bmp and"):
        list_images(Recipe.load("btad"), root, "01")


def test_first_arrangement_that_fits_is_taken(tmp_path: Path) -> None:
    root = visa_folders(visa_table(tmp_path, ["candle"]), ["candle"])
    visa = Recipe.load("visa")
    assert "Data" in list_images(visa, root, "candle").fit[0].parts
    shutil.rmtree(root / "split_csv")
    assert "train" in list_images(visa, root, "candle").fit[0].parts


@pytest.mark.parametrize("tree", [visa_table, visa_folders])
def test_data_set_may_call_a_category_otherwise(tmp_path: Path, tree: Tree) -> None:
    root = tree(tmp_path, ["Candle [new]"])
    recipe = changed(Recipe.load("visa"), names={"candle": "Candle [new]"})
    images = list_images(recipe, root, "candle")
    assert len(images.fit + images.validation) == 4
    assert all(one.mask is not None for one in images.test_anomalous)


def test_name_for_an_unknown_category_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"'data': 'botle' is not among .*mean 'bottle'"):
        changed(Recipe.load("mvtec-ad"), names={"botle": "x"})


@pytest.mark.parametrize(
    "pattern", ["{categry}/*", "{defect}/*", "{", "", "/photos/*", "a**/*", "{category.x}/*", "{}"]
)
def test_pattern_that_cannot_work_is_an_error(pattern: str) -> None:
    images = {"layout": "folder", "normal": pattern}
    with pytest.raises(
        RecipeError, match=r"'data.images': .* is not a pattern below the data root"
    ):
        changed(Recipe.load("mvtec-ad"), images=images)
    with pytest.raises(RecipeError, match=r"'data.alternatives.0': .* is not a pattern"):
        changed(Recipe.load("mvtec-ad"), alternatives=[images])


@pytest.mark.parametrize("mask", ["{stm}.png", "{category}/{defect}/{stem", "/masks/{stem}.png"])
def test_pattern_of_masks_that_cannot_work_is_an_error(mask: str) -> None:
    images = {"layout": "folder", "normal": "{category}/*", "mask": mask}
    with pytest.raises(RecipeError, match=r"with only {category}, {defect}, {stem}, .* in braces"):
        changed(Recipe.load("mvtec-ad"), images=images)


def test_several_patterns_are_tried_and_each_image_is_taken_once(
    tmp_path: Path, recipe: Recipe
) -> None:
    normal = ["disc/a/0.png", "disc/a/1.png", "disc/a/2.png", "disc/b/x/1.png"]
    write_images(tmp_path, *normal, "disc/t/cut/day1/2.png", "disc/t/3.png")
    images = {
        "layout": "folder",
        "normal": ["{category}/a/*", "{category}/b/**/*", "{category}/[ab]/*"],
        "test_anomalous": ["{category}/t/*/**/*", "{category}/t/*"],
    }
    found = list_images(changed(recipe, images=images), tmp_path, "disc")
    everything = [*found.fit, *found.validation, *found.test_normal]
    assert below(tmp_path, sorted(everything)) == normal
    defects = [(one.name, one.defect) for one in found.test_anomalous]
    # The folder before `**`, else that of the image.
    assert defects == [("disc/t/3.png", "t"), ("disc/t/cut/day1/2.png", "cut")]


def test_labels_by_masks_need_masks(recipe: Recipe) -> None:
    images = {"layout": "folder", "normal": "*", "labels": "masks"}
    with pytest.raises(RecipeError, match=r"'data.images': 'labels' is masks, but 'mask'"):
        changed(recipe, images=images)
    with pytest.raises(RecipeError, match=r"'data.images.normal'"):
        changed(recipe, images={"layout": "folder", "normal": []})


def test_without_anomalous_images_nothing_is_kept_for_the_test(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path, ["bottle"])
    layout = {"layout": "folder", "normal": "{category}/train/good/*"}
    images = list_images(changed(Recipe.load("mvtec-ad"), images=layout), root, "bottle")
    assert len(images.fit + images.validation) == 4
    assert (images.test_normal, images.test_anomalous) == ([], [])


def test_table_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    table = visa_table(tmp_path, ["candle"]) / "split_csv/1cls.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert list_images(Recipe.load("visa"), tmp_path, "candle").test_anomalous


def test_other_columns_than_the_recipe_s_are_named(tmp_path: Path) -> None:
    table = visa_table(tmp_path, ["candle"]) / "split_csv/1cls.csv"
    table.write_text(table.read_text().replace("object,split", "split,object"))
    with pytest.raises(ImageError, match=r"columns of .*1cls\.csv are split, object, label"):
        list_images(Recipe.load("visa"), tmp_path, "candle")


def test_masks_of_odd_names_are_found_and_no_others(tmp_path: Path, recipe: Recipe) -> None:
    stems = ["a", "a_mask", "ab", "[a]", "{stem}", "*", "ä", "a.b"]
    for stem in stems:
        write_images(tmp_path, f"disc/test/bad/{stem}.png", f"disc/masks/bad/{stem}_mask.png")
    write_images(tmp_path, "disc/train/good/0.png", "disc/train/good/1.png")
    images = recipe.data.images.model_dump() | {"mask": "{category}/masks/{defect}/{stem}_mask.*"}
    found = list_images(changed(recipe, images=images), tmp_path, "disc")
    assert len(found.test_anomalous) == len(stems)
    for one in found.test_anomalous:
        assert one.mask is not None
        assert one.mask.name == f"{one.path.stem}_mask.png"


def test_names_stand_below_the_root_however_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("root")
    for path in (root / "a/x.png", root / "b/../a/x.png", tmp_path / "root/a/x.png"):
        assert name_below(root, path) == "a/x.png"
    assert name_below(root, root) == "."
    outside = [root / f"../{folder}/x.png" for folder in ("a", "b", "../a")]
    names = [name_below(root, path) for path in outside]
    assert len(set(names)) == 3
    assert all(re.fullmatch("outside/[0-9a-f]{12}/x.png", name) for name in names)
    # The same files by other words have the same names.
    again = [name_below(root.absolute(), path.resolve()) for path in outside]
    assert again == names


def test_many_images_are_looked_at_once_and_one_tells_that_a_layout_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, count in (("good", 3000), ("bad", 1000)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.png").touch()
    looked_at = list[Path]()
    is_image = files.is_image

    def counted(path: Path) -> bool:
        looked_at.append(path)
        return is_image(path)

    monkeypatch.setattr(files, "is_image", counted)
    layout = FolderLayout(layout="folder", normal="good/*", test_anomalous="bad/*")
    assert layout_fits(layout, tmp_path, "gear")
    assert len(looked_at) == 1
    looked_at.clear()
    found = read_layout(layout, tmp_path, "gear")
    assert len(found.normal) + len(found.test_anomalous) == len(looked_at) == 4000
    assert found.normal == sorted(found.normal)
