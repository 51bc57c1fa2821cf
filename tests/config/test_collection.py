"""Collections: several data sets in one corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sia_gen.config.recipe import (
    Collection,
    Recipe,
    all_categories,
    choose_categories,
    load_corpus_recipe,
)
from sia_gen.config.strength import Strength
from sia_gen.errors import RecipeError
from tests.conftest import recipe_content


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
        ([named("a")], {"synthesis": {"calibrated": {"disc": "0.1"}}}, "recipes of the members"),
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
