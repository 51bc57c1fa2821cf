"""Makes a recipe for a folder of photographs, so that own images need no YAML."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.config.recipe_file import LONGEST_NAME
from sia_gen.errors import ImageError
from sia_gen.images.layouts import is_image
from sia_gen.images.listing import existing_folder
from sia_gen.images.loading import read_image
from sia_gen.images.recognition import (
    described,
    folders_in,
    recognise,
    recognise_nearby,
    shipped_recipes,
)

# Where normal images may be, in the order they are looked for.
NORMAL = ("*", "good/*", "train/good/*")
TEST_NORMAL, TEST, MASKS = "test/good/*", "test/*/*", "ground_truth/{defect}/{stem}"
# How many images are looked at to tell the mode and the size.
SAMPLED = 32
# Fewer images are learnt by a small network, at a size that a laptop manages.
MANY = 500
SIZES = (256, 128, 64, 32)


def recipe_for_folder(root: Path) -> Recipe:
    """A recipe of one category, named like the folder.

    Normal images are those directly inside, else in `good`, else in `train/good`; those of the
    test are in `test`, with masks in `ground_truth`, if there are such folders. The mode is L if
    `SAMPLED` of the images have no colour. Images are cropped to squares.

    Raises:
        ImageError: If there is no folder, or no image in it, or a shipped recipe reads it.
    """
    root = Path(os.path.abspath(existing_folder(root)))
    normal = next((pattern for pattern in NORMAL if images_at(root, pattern)), None)
    if normal is None or recognise(root, shipped_recipes()) is not None:
        raise not_own_images(root)
    paths = images_at(root, normal)
    sampled = [read_image(path) for path in paths[:: -(-len(paths) // SAMPLED)]]
    name = re.sub(r"[^a-z0-9_]+", "-", root.name.lower())[:LONGEST_NAME].strip("-_") or "images"
    # The name of a folder may be of bytes that are no text.
    source = root.name.encode(errors="replace").decode() or name
    content = {
        "name": name,
        "title": f"Images of {source}",
        "license": "other",
        "source": source,
        "categories": [name],
        "mode": "L" if all(is_grey(image) for image in sampled) else "RGB",
        "data": {"images": arrangement(root, normal), "non_square": "crop"},
        "diffusion": network_for(len(paths), [min(image.size) for image in sampled]),
    }
    return Recipe.parse(content, where=str(root))


def images_at(root: Path, pattern: str) -> list[Path]:
    """The images that a glob finds, sorted."""
    return sorted(path for path in root.glob(pattern) if is_image(path))


def arrangement(root: Path, normal: str) -> dict[str, str]:
    """Where the images of a folder are, as a folder layout."""
    layout = {"layout": "folder", "normal": normal}
    test_normal = images_at(root, TEST_NORMAL)
    if test_normal:
        layout["test_normal"] = TEST_NORMAL
    if len(images_at(root, TEST)) > len(test_normal):
        layout["test_anomalous"] = TEST
    masks = images_at(root, "ground_truth/*/*")
    if masks:
        suffix = "_mask.*" if all(path.stem.endswith("_mask") for path in masks) else ".*"
        layout["mask"] = MASKS + suffix
    return layout


def network_for(count: int, sides: list[int]) -> dict[str, Any]:
    """Preset and size of the diffusion model for so many images with such shorter sides."""
    preset, largest = ("base", 256) if count >= MANY else ("small", 128)
    side = min(largest, int(np.median(sides)))
    return {
        "ema_decay": 0.999,
        "preset": preset,
        "image_size": next((size for size in SIZES if size <= side), SIZES[-1]),
    }


def is_grey(image: Image.Image) -> bool:
    """Whether an image, L or RGB, has no colour."""
    pixels = np.atleast_3d(np.asarray(image))
    return bool((pixels == pixels[..., :1]).all())


def not_own_images(root: Path) -> ImageError:
    """What to say about a folder that is no plain folder of images."""
    found = recognise_nearby(root, shipped_recipes())
    if found is not None:
        data = "" if found.root == root else f" --data {found.root}"
        return ImageError(
            problem=f"{described(found, root)}.", fix=f"Give --recipe {found.recipe.name}{data}."
        )
    inside = [
        folder
        for folder in folders_in(root)
        if any(images_at(folder, pattern) for pattern in NORMAL)
    ]
    return ImageError(
        problem=f"no images in {root}, nor in its folders good or train/good.",
        fix=f"Give a folder with images, e.g. --data {inside[0]}."
        if inside
        else "Check --data, or describe the folder in a recipe.",
    )
