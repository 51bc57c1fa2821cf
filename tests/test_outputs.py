"""Output folders: each belongs to one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.errors import OutputError
from sia_gen.locks import EVERYTHING, LOCKS
from sia_gen.outputs import RECIPE, claim_output
from sia_gen.recipe import Recipe

Change = dict[str, object]


def claim(folder: Path, recipe: Recipe) -> None:
    with claim_output(folder, recipe, ["diffusion"], {"disc": EVERYTHING}):
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
        {"realnet.batch_size": 9, "synthesis.strength": 1.0},
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
        ({"data.images.normal": "x"}, "data.images.normal: {category}/train/good/*, now x"),
    ],
)
def test_another_recipe_is_refused_and_the_folder_unchanged(
    recipe: Recipe, tmp_path: Path, change: Change, difference: str
) -> None:
    claim(tmp_path, recipe)
    with pytest.raises(OutputError) as caught:
        claim(tmp_path, recipe.override(change))
    assert f"({difference})" in caught.value.problem
    assert {path.name for path in tmp_path.iterdir()} == {LOCKS, RECIPE}
    assert Recipe.load(tmp_path / RECIPE) == recipe


def test_file_in_place_of_the_folder_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the output folder"):
        claim(tmp_path / "file", recipe)
