"""Recognises which data set a folder holds, and makes a recipe for a folder of own photographs."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.recipe_file import LONGEST_NAME, recipe_names
from sia_gen.errors import ImageError
from sia_gen.images.layouts import images_matching, layout_fits, layouts_of, normal_place
from sia_gen.images.loading import read_image

# Where the normal images of an own folder may be, in the order in which these are tried.
NORMAL = ("*", "good/*", "train/good/*")
TEST_NORMAL, TEST, MASKS = "test/good/*", "test/*/*", "ground_truth/{defect}/{stem}"
# Number of images that decide about the mode and the size.
SAMPLED = 32
# Fewer images than this get a small network, at a size that a laptop can train.
MANY = 500
SIZES = (256, 128, 64, 32)


@dataclass(frozen=True)
class Recognised:
    """A folder with the images of a recipe, and where in it each category was found."""

    recipe: Recipe
    root: Path
    places: dict[str, str]

    def relation_to(self, folder: Path) -> str:
        """Describes a folder that is the data set, is inside it, or is around it."""
        name = f"{self.recipe.title} ({next(iter(self.places.values()))})"
        if self.root == folder:
            return f"{folder} looks like {name}"
        if self.root == folder.parent:
            return f"{folder} looks like one category of {name}"
        return f"{folder} is a folder around {self.root}, which looks like {name}"


def recognise(root: Path, recipes: Iterable[Recipe]) -> Recognised | None:
    """Returns the recipe most of whose categories are in a folder; None if no recipe has any."""
    found = [Recognised(recipe, root, _places_in(recipe, root)) for recipe in recipes]
    best = max(found, key=lambda recognised: len(recognised.places), default=None)
    return best if best is not None and best.places else None


@cache
def shipped_recipes() -> list[Recipe]:
    """Returns the recipes of all data sets that come with sia-gen."""
    recipes = [load_corpus_recipe(name) for name in recipe_names()]
    return [recipe for recipe in recipes if isinstance(recipe, Recipe)]


def require_right_root(recipe: Recipe, root: Path, category: str) -> None:
    """Raises `ImageError` if a folder holds other categories, or is inside or around the right one.

    The images may be those of the recipe or of any shipped recipe.
    """
    root = Path(os.path.abspath(root))
    own = _recognise_nearby(root, [recipe])
    if own is not None and own.root == root:
        raise ImageError(
            problem=f"{root} has no images of category '{category}', only those of "
            f"{', '.join(own.places)}.",
            fix="Choose among them with --category, or add the missing images.",
        )
    if own is not None:
        category_option = f" --category {root.name}" if own.root == root.parent else ""
        raise ImageError(
            problem=f"{own.relation_to(root)}.", fix=f"Give --data {own.root}{category_option}."
        )
    other = _recognise_nearby(root, shipped_recipes())
    if other is not None:
        expected = " or ".join(normal_place(layout, category) for layout in layouts_of(recipe.data))
        raise ImageError(
            problem=f"{other.relation_to(root)}; recipe '{recipe.name}' expects {expected}.",
            fix=f"Give --recipe {other.recipe.name}, or the right folder with --data.",
        )


def existing_folder(folder: Path) -> Path:
    """Returns the folder, or raises `ImageError` if it does not exist."""
    if not folder.is_dir():
        raise ImageError(
            problem=f"there is no image folder {folder}.", fix="Check the path of --data."
        )
    return folder


def recipe_for_folder(root: Path) -> Recipe:
    """Makes a recipe with one category, named after the folder, for photographs without a recipe.

    Normal images are those directly in the folder, else in `good`, else in `train/good`. Test
    images are in `test`, with masks in `ground_truth`, if these folders exist. The mode is L if
    `SAMPLED` of the images have no colour. Images that are not square are stretched, so that no
    part of them is lost.
    """
    root = Path(os.path.abspath(existing_folder(root)))
    normal = _normal_pattern(root)
    if normal is None or recognise(root, shipped_recipes()) is not None:
        raise _not_own_images(root)
    paths = images_matching(root, normal)
    sampled = [read_image(path) for path in paths[:: -(-len(paths) // SAMPLED)]]
    name = re.sub(r"[^a-z0-9_]+", "-", root.name.lower())[:LONGEST_NAME].strip("-_") or "images"
    # The bytes of a folder's name need not be text.
    source = root.name.encode(errors="replace").decode() or name
    preset, largest = ("base", 256) if len(paths) >= MANY else ("small", 128)
    side = min(largest, int(np.median([min(image.size) for image in sampled])))
    size = next((size for size in SIZES if size <= side), SIZES[-1])
    content = {
        "name": name,
        "title": f"Images of {source}",
        "license": "other",
        "source": source,
        "categories": [name],
        "mode": "L" if all(_is_grey(image) for image in sampled) else "RGB",
        "data": {"images": _own_layout(root, normal), "non_square": "stretch"},
        "diffusion": {"ema_decay": 0.999, "preset": preset, "image_size": size},
    }
    return Recipe.parse(content, where=str(root))


def _recognise_nearby(root: Path, recipes: list[Recipe]) -> Recognised | None:
    """Recognises the folder, else a folder directly inside it, else the folder around it."""
    for folder in (root, *_folders_in(root)):
        found = recognise(folder, recipes)
        if found is not None:
            return found
    around = recognise(root.parent, recipes)
    return around if around is not None and root.name in around.places else None


def _places_in(recipe: Recipe, root: Path) -> dict[str, str]:
    places: dict[str, str] = {}
    for category in recipe.categories:
        name = recipe.data.names.get(category, category)
        for layout in layouts_of(recipe.data):
            try:
                if layout_fits(layout, root, name):
                    places.setdefault(category, normal_place(layout, name).removesuffix("/*"))
            except ImageError:
                # An unrelated table with the same name.
                continue
    return places


def _folders_in(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if os.path.isdir(path))


def _normal_pattern(root: Path) -> str | None:
    return next((pattern for pattern in NORMAL if images_matching(root, pattern)), None)


def _own_layout(root: Path, normal: str) -> dict[str, str]:
    layout = {"layout": "folder", "normal": normal}
    test_normal = images_matching(root, TEST_NORMAL)
    if test_normal:
        layout["test_normal"] = TEST_NORMAL
    if len(images_matching(root, TEST)) > len(test_normal):
        layout["test_anomalous"] = TEST
    masks = images_matching(root, "ground_truth/*/*")
    if masks:
        suffix = "_mask.*" if all(path.stem.endswith("_mask") for path in masks) else ".*"
        layout["mask"] = MASKS + suffix
    return layout


def _is_grey(image: Image.Image) -> bool:
    pixels = np.atleast_3d(np.asarray(image))
    return bool((pixels == pixels[..., :1]).all())


def _not_own_images(root: Path) -> ImageError:
    found = _recognise_nearby(root, shipped_recipes())
    if found is not None:
        data = "" if found.root == root else f" --data {found.root}"
        return ImageError(
            problem=f"{found.relation_to(root)}.", fix=f"Give --recipe {found.recipe.name}{data}."
        )
    inside = [folder for folder in _folders_in(root) if _normal_pattern(folder) is not None]
    return ImageError(
        problem=f"no images in {root}, nor in its folders good or train/good.",
        fix=f"Give a folder with images, e.g. --data {inside[0]}."
        if inside
        else "Check --data, or describe the folder in a recipe.",
    )
