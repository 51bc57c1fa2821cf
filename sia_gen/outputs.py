"""Output folders: each belongs to one recipe and says which."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sia_gen.errors import OutputError
from sia_gen.files import prepare_output, write_text
from sia_gen.recipe import Recipe

RECIPE = "recipe.yaml"
# Training longer continues a run, and further categories join those that are there. A learning rate
# that proved too high may be lowered on the way: the log tells which steps had which.
MAY_CHANGE = {
    "categories",
    "checkpoint_every",
    "checkpoints_kept",
    "gradient_checkpointing",
    "learning_rate",
    "license",
    "max_minutes",
    "max_steps",
    "preview_every",
    "source",
    "title",
}


def claim_output(folder: Path, recipe: Recipe, sections: Iterable[str]) -> None:
    """Makes an output folder and saves the recipe in it, once it is sure to be the same run's.

    Args:
        folder: The output folder.
        recipe: The recipe of this run.
        sections: Fields of the recipe that the result depends on.

    Raises:
        OutputError: If the folder holds the result of a recipe that differs in them.
    """
    if (folder / RECIPE).exists():
        previous = Recipe.load(folder / RECIPE)
        chosen = ["name", "mode", "seed", "data", *sections]
        for field in chosen:
            difference = first_difference(
                field, previous.model_dump()[field], recipe.model_dump()[field]
            )
            if difference:
                raise OutputError(
                    problem=f"{folder} already holds the result of another recipe ({difference}).",
                    fix="Choose another folder with --out, or delete it.",
                )
    prepare_output(folder)
    write_text(folder / RECIPE, recipe.to_yaml())


def first_difference(path: str, old: Any, new: Any) -> str | None:
    """The first field in which two parts of recipes differ, as "field: old, now new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in MAY_CHANGE:
                found = first_difference(f"{path}.{key}", old.get(key), new.get(key))
                if found:
                    return found
        return None
    return None if old == new else f"{path}: {old}, now {new}"
