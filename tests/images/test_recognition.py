"""A data root of the wrong layout is told apart, and the error says what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.listing import list_images
from sia_gen.images.recognition import recognise, shipped_recipes
from tests.images.trees import TREES, Tree, btad, mpdd, mvtec_ad, visa_folders, visa_table, whole

ARRANGEMENTS = [(name, tree) for name, trees in TREES.items() for tree in trees]


def refusal(recipe: str, root: Path, category: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        list_images(Recipe.load(recipe), root, category)
    return caught.value


@pytest.mark.parametrize(("name", "tree"), ARRANGEMENTS)
def test_every_data_set_is_recognised(name: str, tree: Tree, tmp_path: Path) -> None:
    recipe, root = whole(name, tree, tmp_path)
    found = recognise(root, shipped_recipes())
    assert found is not None
    assert found.recipe == recipe
    assert list(found.places) == recipe.categories


def test_files_that_are_called_like_a_data_set_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elpv").write_text("no recipe")
    monkeypatch.chdir(tmp_path)
    shipped_recipes.cache_clear()
    assert "elpv" in [recipe.name for recipe in shipped_recipes()]


@pytest.mark.parametrize(
    ("name", "tree", "other"),
    [(name, tree, other) for name, tree in ARRANGEMENTS for other in TREES if other != name],
)
def test_another_data_set_is_named_with_its_recipe(
    name: str, tree: Tree, other: str, tmp_path: Path
) -> None:
    recipe, root = whole(name, tree, tmp_path)
    wanted = Recipe.load(other)
    error = refusal(other, root, wanted.categories[0])
    assert error.problem.startswith(f"{root} looks like {recipe.title} (")
    assert f"; recipe '{other}' expects " in error.problem
    assert error.fix == f"Give --recipe {name}, or the right folder with --data."


def test_both_layouts_are_spelt_out(tmp_path: Path) -> None:
    error = refusal("visa", mvtec_ad(tmp_path, ["bottle"]), "candle")
    assert error.problem == (
        f"{tmp_path} looks like MVTec AD (bottle/train/good); recipe 'visa' expects "
        "split_csv/1cls.csv or candle/train/good/* or candle/train/ok/*."
    )


def test_table_is_named_as_the_place(tmp_path: Path) -> None:
    error = refusal("btad", visa_table(tmp_path, ["candle"]), "01")
    assert "looks like VisA (split_csv/1cls.csv)" in error.problem


def test_folder_around_the_right_one_is_told(tmp_path: Path) -> None:
    visa_folders(tmp_path / "VisA_pytorch/1cls", ["candle", "pcb1"])
    error = refusal("visa", tmp_path / "VisA_pytorch", "candle")
    assert "is a folder around" in error.problem
    assert error.fix == f"Give --data {tmp_path}/VisA_pytorch/1cls."


def test_folder_of_one_category_is_told(tmp_path: Path) -> None:
    root = btad(tmp_path / "btad", ["01", "02"])
    error = refusal("btad", root / "02", "01")
    assert error.problem == f"{root}/02 looks like one category of BTAD (01/train/ok)."
    assert error.fix == f"Give --data {root} --category 02."


def test_relative_folder_is_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mpdd(tmp_path / "mpdd", ["tubes"])
    monkeypatch.chdir(root / "tubes")
    assert refusal("mpdd", Path(), "tubes").fix == f"Give --data {root} --category tubes."


def test_missing_category_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    error = refusal("mvtec-ad", mvtec_ad(tmp_path, ["bottle", "grid"]), "zipper")
    assert error.problem == (
        f"{tmp_path} has no images of category 'zipper', only those of bottle, grid."
    )


def test_category_missing_in_a_table_is_told(tmp_path: Path) -> None:
    error = refusal("visa", visa_table(tmp_path, ["candle"]), "pcb1")
    assert error.problem.endswith("no images of category 'pcb1', only those of candle.")


def test_other_data_set_nearby_is_told(tmp_path: Path) -> None:
    mvtec_ad(tmp_path / "data" / "mvtec", ["bottle"])
    around = refusal("btad", tmp_path / "data", "01")
    assert "data/mvtec, which looks like MVTec AD (bottle/train/good)" in around.problem
    inside = refusal("btad", tmp_path / "data/mvtec/bottle", "01")
    assert "bottle looks like one category of MVTec AD" in inside.problem


def test_data_set_around_does_not_matter_to_a_folder_that_is_no_category(tmp_path: Path) -> None:
    mvtec_ad(tmp_path, ["bottle"])
    (tmp_path / "own").mkdir()
    assert refusal("btad", tmp_path / "own", "01").problem.startswith("no images at ")


def test_unknown_folder_is_told_all_places_that_were_tried(tmp_path: Path) -> None:
    error = refusal("visa", tmp_path, "candle")
    assert error.problem == (
        f"no images of category 'candle' at {tmp_path}/split_csv/1cls.csv, "
        f"nor {tmp_path}/candle/train/good/*, nor {tmp_path}/candle/train/ok/*."
    )


def test_foreign_table_of_the_same_name_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/labels.csv").write_text("a,b,c,d,e\n")
    assert recognise(tmp_path, shipped_recipes()) is None


def test_empty_folders_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "bottle/train/good").mkdir(parents=True)
    assert recognise(tmp_path, shipped_recipes()) is None
