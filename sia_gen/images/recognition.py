"""Tells which data set a folder holds, by trying the layouts of the shipped recipes on it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.recipe_file import recipe_names
from sia_gen.errors import ImageError
from sia_gen.images.layouts import fits, layouts_of, place_of


@dataclass(frozen=True)
class Recognised:
    """A folder that holds the images of a recipe.

    Attributes:
        recipe: The recipe.
        root: The folder.
        places: Where the images of those categories are that were found, below the folder.
    """

    recipe: Recipe
    root: Path
    places: dict[str, str]

    def __str__(self) -> str:
        return f"{self.recipe.title} ({next(iter(self.places.values()))})"


def recognise(root: Path, recipes: Iterable[Recipe]) -> Recognised | None:
    """The recipe most of whose categories are in a folder; None if no recipe has any."""
    found = [Recognised(recipe, root, places_in(recipe, root)) for recipe in recipes]
    best = max(found, key=lambda recognised: len(recognised.places), default=None)
    return best if best is not None and best.places else None


def recognise_nearby(root: Path, recipes: list[Recipe]) -> Recognised | None:
    """Likewise, in the folder, else in one directly inside it, else in the one around it."""
    here = recognise(root, recipes)
    if here is not None:
        return here
    for folder in folders_in(root):
        inside = recognise(folder, recipes)
        if inside is not None:
            return inside
    around = recognise(root.parent, recipes)
    return around if around is not None and root.name in around.places else None


def places_in(recipe: Recipe, root: Path) -> dict[str, str]:
    """Where the recipe's categories are below a folder, as far as they are there."""
    places: dict[str, str] = {}
    for category in recipe.categories:
        name = recipe.data.names.get(category, category)
        for layout in layouts_of(recipe.data):
            try:
                if fits(layout, root, name):
                    places.setdefault(category, place_of(layout, name).removesuffix("/*"))
            except ImageError:
                # Some other table of the same name.
                continue
    return places


def folders_in(root: Path) -> list[Path]:
    """The folders directly inside a folder."""
    return sorted(path for path in root.glob("*") if os.path.isdir(path))


@cache
def shipped_recipes() -> list[Recipe]:
    """The recipes of all data sets that come with sia-gen."""
    recipes = [load_corpus_recipe(name) for name in recipe_names()]
    return [recipe for recipe in recipes if isinstance(recipe, Recipe)]


def require_right_root(recipe: Recipe, root: Path, category: str) -> None:
    """Refuses a folder known to hold something else than the images of a category.

    Raises:
        ImageError: If it holds only other categories of the recipe, is the folder inside or around
            the right one, or holds the images of another recipe.
    """
    root = Path(os.path.abspath(root))
    own = recognise_nearby(root, [recipe])
    if own is not None:
        raise misplaced(own, root, category)
    other = recognise_nearby(root, shipped_recipes())
    if other is not None:
        expected = " or ".join(place_of(layout, category) for layout in layouts_of(recipe.data))
        raise ImageError(
            problem=f"{described(other, root)}; recipe '{recipe.name}' expects {expected}.",
            fix=f"Give --recipe {other.recipe.name}, or the right folder with --data.",
        )


def misplaced(own: Recognised, root: Path, category: str) -> ImageError:
    """What to say if the images of the right recipe are near, but not those of the category."""
    if own.root == root:
        there = ", ".join(own.places)
        return ImageError(
            problem=f"{root} has no images of category '{category}'; it has those of {there}.",
            fix="Choose among them with --category, or add the missing ones.",
        )
    fix = f"Give --data {own.root}"
    return ImageError(
        problem=f"{described(own, root)}.",
        fix=f"{fix} --category {root.name}." if own.root == root.parent else f"{fix}.",
    )


def described(found: Recognised, root: Path) -> str:
    """How a folder relates to the data set that was recognised in it, inside it or around it."""
    if found.root == root:
        return f"{root} looks like {found}"
    if found.root == root.parent:
        return f"{root} looks like one category of {found}"
    return f"{root} is a folder around {found.root}, which looks like {found}"
