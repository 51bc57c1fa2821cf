"""What commands have in common: the recipe, the folders, the words."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sia_gen.errors import OptionError

if TYPE_CHECKING:
    from sia_gen.config.recipe import CorpusRecipe, Recipe


def load_recipe(name: str | None, changes: dict[str, Any], data: Path | None = None) -> Recipe:
    """A recipe, or that of a folder of own images, with the options of the command line on top."""
    from sia_gen.config.recipe import Recipe

    if name is not None:
        return Recipe.load(name).override(changes)
    if data is None:
        raise OptionError(
            problem="it takes a recipe or a folder of images.",
            fix="Give --recipe, e.g. one that 'sia-gen recipes' lists, or --data.",
        )
    from sia_gen.images.recognition import recipe_for_folder

    return recipe_for_folder(data).override(changes)


def choose_categories(recipe: Recipe, wanted: list[str] | None) -> list[str]:
    """The categories of a data set that a command is for, in the order of the recipe."""
    from sia_gen.config.recipe import choose_categories as choose

    return [one.category for one in choose(recipe, wanted)]


def used(recipe: str | None, folder: Path) -> str:
    """The recipe for the next step: the one given, else the one that a step saved in a folder."""
    from sia_gen.config.outputs import RECIPE

    return recipe or str(folder / RECIPE)


def next_command(
    command: str, recipe: str, categories: Sequence[str] | None, **folders: Path | None
) -> str:
    """The command that goes on from here, as a shell reads it.

    Args:
        command: Its name, and the options that it always has.
        recipe: The recipe for it.
        categories: Those that this step was for, if they were named.
        folders: Options by their names; None where the command looks by itself.
    """
    given = [("--recipe", recipe), *(("--category", name) for name in categories or ())]
    given += [(f"--{name}", str(folder)) for name, folder in folders.items() if folder]
    return " ".join(["sia-gen", command, *(shlex.join(pair) for pair in given)])


def run_folder(recipe: CorpusRecipe, step: str) -> Path:
    """Where a step writes, and the next one reads, when nothing else is said."""
    return Path("runs") / recipe.name / step


def say(text: str) -> None:
    """Prints a result once, however many processes made it."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def runtime(precision: Any, device: Any, channels_last: Any = None, *, compiled: Any = None) -> Any:
    """What to run on."""
    from sia_gen.runtime.device import Runtime

    return Runtime(precision, device, compiled, channels_last)
