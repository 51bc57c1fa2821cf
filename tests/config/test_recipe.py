"""Recipes: what is accepted, what is refused, and that they survive being saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sia_gen.config.recipe import (
    Collection,
    Recipe,
    all_categories,
    choose_categories,
    load_corpus_recipe,
)
from sia_gen.config.strength import Strength
from sia_gen.errors import RecipeError
from sia_gen.images.recognition import shipped_recipes
from tests.conftest import recipe_content

Content = dict[str, Any]
SHIPPED = [recipe.name for recipe in shipped_recipes()]


@pytest.fixture
def content() -> Content:
    return Recipe.parse(recipe_content(), where="conftest").model_dump(mode="json")


@pytest.fixture
def table_content() -> Content:
    return Recipe.load("elpv").model_dump(mode="json")


def problem_of(content: object) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(content, where="mine.yaml")
    return caught.value.problem


@pytest.mark.parametrize("name", SHIPPED)
def test_saved_recipe_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    path = tmp_path / "saved.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.load(path) == recipe
    assert Recipe.load(str(path)).hash() == recipe.hash()


def test_shipped_recipes_are_found_by_name() -> None:
    assert {"demo", "elpv"} <= set(SHIPPED)
    assert Recipe.load("elpv").categories == ["mono", "poly"]


def test_every_field_changes_the_hash(recipe: Recipe) -> None:
    changes = {"seed": 1, "synthesis.strength": 0.3, "realnet.opacity": (0.5, 0.9), "title": "x"}
    hashes = {recipe.override({field: value}).hash() for field, value in changes.items()}
    assert len(hashes | {recipe.hash()}) == len(changes) + 1


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda c: c.pop("license"), "'license' is missing"),
        (lambda c: c.update(nam="x"), "unknown key 'nam' (did you mean 'name'?)"),
        (
            lambda c: c["diffusion"].update(batch=1),
            "unknown key 'diffusion.batch' (did you mean 'batch_size'?)",
        ),
        (lambda c: c["synthesis"].update(zzz=1), "unknown key 'synthesis.zzz'."),
        (lambda c: c["data"]["images"].pop("normal"), "'data.images.normal' is missing"),
        (
            lambda c: c["data"]["images"].update(tset_normal="x"),
            "unknown key 'data.images.tset_normal' (did you mean 'test_normal'?)",
        ),
        (
            lambda c: c["realnet"]["weights"].update(fil="x"),
            "unknown key 'realnet.weights.fil' (did you mean 'file'?)",
        ),
        (
            lambda c: c["foreground"].update(disc={"methd": "otsu"}),
            "unknown key 'foreground.disc.methd' (did you mean 'method'?)",
        ),
        (lambda c: c["data"]["images"].pop("layout"), "'data.images.layout' is missing"),
        (
            lambda c: c["data"]["images"].update(layout="tree"),
            "'data.images.layout': input should be one of 'folder', 'table'",
        ),
        (lambda c: c.update({"a\n\x1b[2J": 1}), "unknown key 'a [2J'"),
        (lambda c: c.update({"k" * 9999: 1}), f"unknown key '{'k' * 300} ...'"),
        (lambda c: c.update(name="My parts"), "'name': string should match"),
        (lambda c: c.update(name="x" * 65), "'name': string should have at most 64"),
        (lambda c: c.update(seed=True), "'the recipe': 'seed' should not be true or false"),
        (lambda c: c["realnet"].update(strides=[8, True]), "'realnet': 'strides' should not"),
        (lambda c: c["realnet"].update(opacity=[0.9, 0.1]), "'realnet.opacity': the range is rev"),
        (lambda c: c["realnet"].update(mask_area=[0.9, 0.1]), "'realnet.mask_area': the range is"),
        (
            lambda c: c["data"]["images"].update(normal="{category:>99}/*"),
            "'data.images': '{category:>99}/*' is not a pattern",
        ),
        (lambda c: c.update(categories=["a.b"]), "'categories.0': string should match"),
        (lambda c: c.update(categories=[]), "'categories': list should have at least 1"),
        (lambda c: c.update(mode="RGBA"), "'mode': input should be 'L' or 'RGB'"),
        (lambda c: c.update(seed=-1), "'seed': input should be greater than or equal to 0"),
        (lambda c: c.update(seed=2**32), "'seed': input should be less than"),
        (lambda c: c["diffusion"].update(learning_rate=float("nan")), "'diffusion.learning_rate'"),
        (lambda c: c["data"].update(fit_fraction=1), "'data.fit_fraction': input should be less"),
        (
            lambda c: c["synthesis"].update(strength="0.2:0.1"),
            "'synthesis.strength': strength '0.2:0.1' is reversed: 0.2 > 0.1.",
        ),
        (
            lambda c: c["synthesis"].update(images=10**5, shard_size=1),
            "'synthesis': 'shard_size' is too small for 100,000 images: 99,999 shards are the most",
        ),
        (
            lambda c: c["realnet"].update(strides=[], channels_kept=[]),
            "'realnet.strides': list sho",
        ),
        (lambda c: c["realnet"].update(strides=[8, 8]), "'realnet': 'strides' do not ascend"),
        (lambda c: c["realnet"].update(strides=[16, 8]), "'realnet': 'strides' do not ascend"),
        (lambda c: c["synthesis"].update(images=10**9), "'synthesis.images': input should be less"),
        (lambda c: c["synthesis"].update(strength=None), "'synthesis.strength': input should be"),
        (lambda c: c["synthesis"].update(format="gif"), "'synthesis.format': input should be"),
        (lambda c: c["realnet"].update(weights=3), "'realnet.weights': input should be"),
        (lambda c: c["realnet"]["weights"].pop("file"), "'realnet.weights.file' is missing"),
        (
            lambda c: c["realnet"].update(strides=[8]),
            "'realnet': 'channels_kept' needs one number for every number of 'strides'",
        ),
        (
            lambda c: c["realnet"].update(layers=[3, 5]),
            "'realnet': only one of 'strides' and 'layers' can choose layers, but both are given",
        ),
        (lambda c: c["realnet"].update(layers=[], strides=None), "'realnet.layers': list should"),
        (lambda c: c["realnet"].update(layers=[1.5], strides=None), "'realnet.layers.0'"),
        (
            lambda c: c["realnet"].update(layers=[3, 5, -1], strides=None),
            "'realnet': 'channels_kept' needs one number for every number of 'layers'",
        ),
        (
            lambda c: c["realnet"].update(layers=[3, 3], strides=None),
            "'realnet': 'layers' do not ascend",
        ),
        (
            lambda c: c["realnet"].update(layers=[0, -1, -2], strides=None),
            "'realnet': 'layers' do not ascend",
        ),
    ],
)
def test_a_wrong_field_is_named(
    content: Content, spoil: Callable[[Content], None], problem: str
) -> None:
    spoil(content)
    assert problem_of(content).startswith("mine.yaml: ")
    assert problem in problem_of(content)


@pytest.mark.parametrize("field", ["table", "columns", "label"])
def test_a_missing_field_of_a_table_layout_is_named(table_content: Content, field: str) -> None:
    del table_content["data"]["images"][field]
    assert f"'data.images.{field}' is missing" in problem_of(table_content)


def test_a_column_that_the_table_lacks_is_named(table_content: Content) -> None:
    table_content["data"]["images"]["label"] = "grade"
    assert "'data.images': column 'grade' is not among 'columns'" in problem_of(table_content)


@pytest.mark.parametrize("content", [None, [], "recipe"])
def test_yaml_that_is_no_mapping_is_refused(content: object) -> None:
    assert "'the recipe': input should be" in problem_of(content)


def test_recipe_cannot_be_changed(recipe: Recipe) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe.diffusion.max_steps = 1


def test_override_replaces_nested_fields_and_skips_none(recipe: Recipe) -> None:
    changed = recipe.override({"diffusion.max_steps": 7, "seed": None, "synthesis.strength": "0"})
    assert (changed.diffusion.max_steps, changed.seed) == (7, recipe.seed)
    assert changed.synthesis.strength == "0"
    assert recipe.override({}) == recipe
    assert recipe.diffusion.max_steps == 4


@pytest.mark.parametrize("strides", [{}, {"strides": None}])
def test_layers_take_the_place_of_strides(
    content: Content, tmp_path: Path, strides: Content
) -> None:
    del content["realnet"]["strides"]
    content["realnet"] |= {"channels_kept": [9, 9, 9, 9]} | strides
    by_stride = Recipe.parse(content, where="here")
    assert (by_stride.realnet.strides, by_stride.realnet.layers) == ([4, 8, 16, 32], None)
    content["realnet"]["layers"] = [0, 3, -2, -1]
    by_number = Recipe.parse(content, where="here")
    assert (by_number.realnet.strides, by_number.realnet.layers) == (None, [0, 3, -2, -1])
    for recipe in (by_stride, by_number):
        (tmp_path / "saved.yaml").write_text(recipe.to_yaml())
        assert Recipe.load(tmp_path / "saved.yaml") == recipe


def test_override_of_layers_replaces_strides_and_back(recipe: Recipe) -> None:
    numbered = recipe.override({"realnet.layers": [3, 5]})
    assert (numbered.realnet.strides, numbered.realnet.layers) == (None, [3, 5])
    assert numbered.override({"realnet.strides": [8, 16]}) == recipe
    assert numbered.override({"realnet.strides": None, "seed": 0}) == numbered
    with pytest.raises(RecipeError, match="both are given"):
        recipe.override({"realnet.layers": [3, 5], "realnet.strides": [8, 16]})


def test_override_is_validated(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"command line: 'diffusion.max_steps'"):
        recipe.override({"diffusion.max_steps": 0})


def test_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'elvp' \(did you mean 'elpv'\?\)\. .*demo, elpv"):
        Recipe.load("elvp")


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/y.yaml"])
def test_name_that_is_too_long_for_a_file_is_told(name: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe 'xxx.*name too long"):
        Recipe.load(name)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: b: c", b"a: 1\na: 2"])
def test_file_that_is_no_yaml_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"broken\.yaml cannot be read as YAML") as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_printed_recipe_has_every_default(recipe: Recipe) -> None:
    printed = yaml.safe_load(recipe.to_yaml())
    assert printed["diffusion"]["learning_rate"] == 1e-4
    assert set(printed["realnet"]) == set(type(recipe.realnet).model_fields)


def named(name: str, **changes: Any) -> dict[str, Any]:
    return recipe_content() | {"name": name} | changes


def collection(*members: Any, **changes: Any) -> Collection:
    content = {"name": "all", "title": "All", "members": list(members)} | changes
    return Collection.parse(content, where="test")


def names(recipe: Any, *wanted: str) -> list[str]:
    return [category.name for category in choose_categories(recipe, wanted)]


def test_sia_is_36_categories_of_10000_images_at_the_papers_settings() -> None:
    sia = load_corpus_recipe("sia-360k")
    categories = all_categories(sia)
    assert len(categories) == len({category.name for category in categories}) == 36
    counts = [len(member.categories) for member in sia.members]
    assert dict(zip([member.dataset for member in sia.members], counts, strict=True)) == {
        "mvtec_ad": 15,
        "visa": 12,
        "mpdd": 6,
        "btad": 3,
    }
    assert sia.synthesis.images * len(categories) == 360_000
    assert Strength.parse(sia.synthesis.strength) == Strength(0.1, 0.2)
    assert sia.synthesis.steps == 20


def test_saved_collection_holds_its_members_in_full(tmp_path: Path) -> None:
    saved = tmp_path / "recipe.yaml"
    saved.write_text(load_corpus_recipe("sia-360k").to_yaml())
    again = load_corpus_recipe(saved)
    assert again == load_corpus_recipe("sia-360k")
    assert again.hash() == load_corpus_recipe("sia-360k").hash()
    content = yaml.safe_load(saved.read_text())
    assert content["members"][0]["foreground"]["bottle"]["method"] == "otsu"


def test_categories_are_chosen_by_name_with_data_set_or_as_a_whole_data_set() -> None:
    both = collection(named("one-x"), named("two", categories=["disc", "ring"]))
    assert names(both) == ["one_x.disc", "one_x.plate", "two.disc", "two.ring"]
    assert names(both, "ring", "plate") == ["one_x.plate", "two.ring"]
    assert names(both, "two.disc") == ["two.disc"]
    assert names(both, "one-x") == names(both, "one_x") == ["one_x.disc", "one_x.plate"]
    with pytest.raises(RecipeError, match=r"has 'disc' in several data sets.*one_x\.disc or two"):
        names(both, "disc")
    with pytest.raises(RecipeError, match=r"no category 'rin' \(did you mean 'ring'\?\)"):
        names(both, "rin")


def test_recipe_of_one_data_set_is_the_corpus_of_it_alone(recipe: Recipe) -> None:
    assert recipe.members == [recipe]
    assert names(recipe) == ["parts.disc", "parts.plate"]
    assert names(recipe, "plate", "parts.disc", "plate") == ["parts.disc", "parts.plate"]
    with pytest.raises(RecipeError, match=r"'disk' \(did you mean 'disc'\?\)\..*disc, plate"):
        names(recipe, "disc", "disk")
    with pytest.raises(RecipeError, match="no category 'parts'"):
        names(recipe, "parts")


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ([], {}, "'members': list should have at least 1 item"),
        (["nowhere"], {}, "there is no recipe 'nowhere'"),
        ([named("a"), named("b", mode="RGB")], {}, "differ in 'mode'"),
        ([named("a-b"), named("a_b")], {}, "two members have the same name"),
        ([named("a", seeed=1)], {}, r"unknown key 'members\.0\.seeed' \(did you mean 'seed'"),
        ([named("a")], {"stepss": 3}, "unknown key 'stepss'"),
        (
            [named("a")],
            {"synthesis": {"calibrated": {"disc": {"white": "0.1"}}}},
            "recipes of the members",
        ),
        ([named("a")], {"synthesis": {"strength": "0.2:0.1"}}, "reversed"),
    ],
)
def test_wrong_collections_are_one_line(
    members: list[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        collection(*members, **changes)


def test_commands_for_one_data_set_refuse_a_collection() -> None:
    with pytest.raises(RecipeError, match=r"several data sets; only one is possible here"):
        Recipe.load("sia-360k")
