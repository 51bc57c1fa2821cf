"""What the commands share: recipes, default folders, and results on stdout."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sia_gen.errors import OptionError

if TYPE_CHECKING:
    from sia_gen.config.recipe import CorpusRecipe, Recipe

# Digits of a number of pixels, at most.
DIGITS = 9


def load_recipe(name: str | None, changes: dict[str, Any], data: Path | None = None) -> Recipe:
    """Loads a recipe, or makes one for a folder of images, and applies options to it."""
    from sia_gen.config.recipe import Recipe

    if name is not None:
        return Recipe.load(name).override(changes)
    if data is None:
        raise OptionError(
            problem="neither a recipe nor an image folder was given.",
            fix="Give --recipe with a name from 'sia-gen recipes', or --data with your images.",
        )
    from sia_gen.images.recognition import recipe_for_folder

    return recipe_for_folder(data).override(changes)


def load_inputs(
    name: str | None,
    data: Path | None,
    categories: list[str] | None,
    changes: dict[str, Any] | None = None,
    steps: Mapping[str, Path | str | None] | None = None,
    *,
    tell: bool = True,
) -> tuple[Recipe, list[str], Path]:
    """Returns the recipe, its chosen categories in order, and the folder of the images.

    Without a recipe, lines on stderr say what was found in the folder.

    Args:
        name: Name or path of the recipe; without it the folder of the images tells it.
        data: Folder of the images.
        categories: Categories to choose.
        changes: Values to change in the recipe.
        steps: The outputs that the result goes on from, by step; without a folder its default. The
            first recipe of the data set that is saved in one of them is taken if none is named, and
            tells what is white in the images.
        tell: Whether to say what was found.
    """
    from sia_gen.config.recipe import choose_categories
    from sia_gen.images.found import report
    from sia_gen.images.listing import data_root

    recipe = load_recipe(name, {}, data)
    folders = [Path(given or run_folder(recipe, step)) for step, given in (steps or {}).items()]
    if name is None:
        recipe = _continued(recipe, folders)
    recipe = recipe.override(changes or {})
    chosen = [one.category for one in choose_categories(recipe, categories)]
    root = data_root(recipe, data)
    if name is None and tell:
        report(recipe, root, chosen)
    if steps is not None:
        from sia_gen.images.shapes import settle

        recipe = settle(recipe, chosen, root, folders)
    return recipe, chosen, root


def _continued(recipe: Recipe, folders: Sequence[Path]) -> Recipe:
    """Returns the recipe that an earlier run made for the same folder of images, if one did.

    More photographs might make another one, which would not fit what is there.
    """
    from sia_gen.config.outputs import saved_in, with_limits
    from sia_gen.runtime.progress import notice

    for saved, path in saved_in(folders, recipe.name):
        notice(f"Goes on with the recipe in {path}.")
        return with_limits(saved, recipe)
    return recipe


def tile_changes(tile: str | None, scale: float | None) -> dict[str, Any]:
    """Returns what the options of tiles change in a recipe."""
    size, _, overlap = (tile or "").partition(":")
    numbers = size, overlap or "0"
    if tile is not None and not all(one.isdecimal() and len(one) <= DIGITS for one in numbers):
        raise OptionError(
            problem=f"--tile {tile} is not a number of pixels.",
            fix="Give the side of a tile, such as 256, or with its overlap 256:64.",
        )
    return {
        "data.tile.size": int(size) if size else None,
        "data.tile.overlap": int(overlap or int(size) // 4) if size else None,
        "data.tile.scale": scale,
    }


def twin_settings(
    source: str | None,
    start: float | None,
    invert: bool,
    edit: str | None,
    region: str | None,
    tiles: int | None = None,
) -> dict[str, Any]:
    """Returns the settings of twins that were given as options, by name."""
    settings = {
        "source": source,
        "start": start,
        "invert": invert or None,
        "edit": edit,
        "region": region,
        "tiles": tiles,
    }
    return {name: value for name, value in settings.items() if value is not None}


def twin_changes(
    recipe: CorpusRecipe, twins: bool, settings: dict[str, Any], *inputs: str
) -> dict[str, Any]:
    """Returns what the settings of twins change; without twins, refuses them and inputs."""
    own = recipe.synthesis.twins
    if twins or own is not None:
        return {"synthesis.twins": (own.model_dump() if own else {}) | settings}
    for name in [*settings, *inputs]:
        raise OptionError(problem=f"--{name} applies only to twins.", fix="Add --twins.")
    return {}


def run_folder(recipe: CorpusRecipe, step: str) -> Path:
    """Returns the default output folder of a step, where the next one looks for it."""
    return Path("runs") / recipe.name / step


def saved_recipe(folder: Path) -> str:
    """Returns the path of the recipe that a step saved in its output folder."""
    from sia_gen.config.outputs import RECIPE

    return str(folder / RECIPE)


def next_command(
    command: str, recipe: str, categories: Sequence[str] | None, **folders: Path | None
) -> str:
    """Returns the shell command of the next step; folders that are None are left out."""
    given = [("--recipe", recipe), *(("--category", name) for name in categories or ())]
    given += [(f"--{name}", str(folder)) for name, folder in folders.items() if folder]
    return " ".join(["sia-gen", command, *(shlex.join(pair) for pair in given)])


def say(text: str) -> None:
    """Prints a result, once per run even if several processes share it."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)
