"""Output folders: each belongs to one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.config.outputs import RECIPE, claim_output, saved_in, with_limits
from sia_gen.config.recipe import Collection, Recipe
from sia_gen.errors import OutputError
from sia_gen.io.locks import EVERYTHING, LOCKS

Change = dict[str, object]


def claim(folder: Path, recipe: Recipe) -> None:
    with claim_output(folder, recipe, ["diffusion", "synthesis", "realnet"], {"disc": EVERYTHING}):
        pass


def test_claimed_folder_says_its_recipe(recipe: Recipe, tmp_path: Path) -> None:
    claim(tmp_path / "out", recipe)
    assert Recipe.load(tmp_path / "out" / RECIPE) == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"diffusion.max_steps": 100},
        {"categories": ["disc"]},
        {"title": "Parts", "license": "mit", "source": "elsewhere"},
        {"classifier.batch_size": 9},
        {"realnet.learning_rate": 0.5, "synthesis.calibrated": {"disc": {"white": "0.1:0.2"}}},
    ],
)
def test_what_does_not_change_the_result_may_change(
    recipe: Recipe, tmp_path: Path, change: Change
) -> None:
    claim(tmp_path, recipe)
    claim(tmp_path, recipe.override(change))
    assert Recipe.load(tmp_path / RECIPE) == recipe.override(change)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"name": "other"}, "name: parts, now other"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"mode": "RGB"}, "mode: L, now RGB"),
        ({"diffusion.batch_size": 3}, "diffusion.batch_size: 2, now 3"),
        ({"synthesis.twins": {"source": "image"}}, "synthesis.twins: None, now {'source'"),
        ({"realnet.source": "dtd"}, "realnet.source: sdas, now dtd"),
        ({"data.images.normal": "x"}, "data.images.normal: {category}/train/good/*, now x"),
    ],
)
def test_another_recipe_is_refused_and_the_folder_unchanged(
    recipe: Recipe, tmp_path: Path, change: Change, difference: str
) -> None:
    claim(tmp_path, recipe)
    with pytest.raises(OutputError) as caught:
        claim(tmp_path, recipe.override(change))
    assert f"({difference}" in caught.value.problem
    assert {path.name for path in tmp_path.iterdir()} == {LOCKS, RECIPE}
    assert Recipe.load(tmp_path / RECIPE) == recipe


def test_start_of_twins_does_not_change_to_photographs(recipe: Recipe, tmp_path: Path) -> None:
    twins = recipe.override({"synthesis.twins": {}})
    claim(tmp_path, twins)
    with pytest.raises(OutputError, match=r"synthesis\.twins\.source: noise, now image"):
        claim(tmp_path, twins.override({"synthesis.twins": {"source": "image"}}))


def test_what_a_result_does_not_depend_on_may_differ(recipe: Recipe, tmp_path: Path) -> None:
    other = recipe.override({"mode": "RGB", "seed": 3, "data.images.normal": "x"})
    for one in (recipe, other):
        with claim_output(tmp_path, one, [], {"disc": EVERYTHING}, always=["name"]):
            pass
    assert Recipe.load(tmp_path / RECIPE) == other


def test_saved_recipes_of_a_data_set_are_found_in_order(recipe: Recipe, tmp_path: Path) -> None:
    others = recipe.override({"name": "others"})
    content = {"name": "all", "title": "All", "members": [others.model_dump(), recipe.model_dump()]}
    saved = {
        "others": others,
        "collection": Collection.parse(content, where="test"),
        "late": recipe.override({"seed": 9}),
    }
    for name, one in saved.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / RECIPE).write_text(one.to_yaml())
    folders = [tmp_path / name for name in ("missing", *saved)]
    assert list(saved_in(folders, "parts")) == [
        (recipe, tmp_path / "collection" / RECIPE),
        (saved["late"], tmp_path / "late" / RECIPE),
    ]


def test_each_run_has_its_own_limits(recipe: Recipe) -> None:
    saved = recipe.override(
        {
            "seed": 5,
            "diffusion.max_steps": 1,
            "diffusion.max_minutes": 3,
            "diffusion.batch_size": 7,
            "realnet.max_minutes": 4,
        }
    )
    limits = recipe.override({"realnet.max_steps": 9})
    expected = recipe.override({"seed": 5, "diffusion.batch_size": 7, "realnet.max_steps": 9})
    assert with_limits(saved, limits) == expected


def test_file_in_place_of_the_folder_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the output folder"):
        claim(tmp_path / "file", recipe)
