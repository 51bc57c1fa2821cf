"""The test images of a category, with what is known of them; read by the evaluation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.images.layouts import name_below
from sia_gen.images.listing import split_images
from sia_gen.images.loading import (
    ImageSpec,
    find_unreadable,
    opened,
    to_eight_bits,
    to_square,
    upright,
    upright_size,
)

GOOD = "good"
# Masks may number their defects, but a photograph has more levels than that.
MOST_LEVELS = 32


@dataclass(frozen=True)
class TestImage:
    """An image of the test.

    Attributes:
        path: The file.
        name: See `sia_gen.images.layouts.name_below`.
        defect: The name of its defect, `good` if it has none.
        mask: The file of its ground truth, if there is one.
    """

    # Its name makes pytest look for tests in it.
    __test__ = False

    path: Path
    name: str
    defect: str
    mask: Path | None = None

    @property
    def label(self) -> int:
        """1 if it is anomalous, else 0."""
        return int(self.defect != GOOD)


def list_test_images(recipe: Recipe, root: Path, category: str) -> list[TestImage]:
    """The test images of a category, normal ones first.

    If the recipe says so, those that cannot be read are left out, which a line on stderr reports.

    Raises:
        ImageError: If a kind is missing, or only some of the anomalous ones have a mask.
    """
    listed = split_images(recipe, root, category)
    normal = [TestImage(path, name_below(root, path), GOOD) for path in listed.test_normal]
    anomalous = [
        TestImage(path, name_below(root, path), defect, mask)
        for path, defect, mask in zip(
            listed.test_anomalous, listed.defects, listed.masks, strict=True
        )
    ]
    if recipe.data.unreadable == "skip":
        paths = [test.path for test in (*normal, *anomalous)]
        unreadable = find_unreadable(paths, f"{category}, test")
        normal = [test for test in normal if test.path not in unreadable]
        anomalous = [test for test in anomalous if test.path not in unreadable]
    require_both_kinds({"normal": normal, "anomalous": anomalous}, category, root)
    without = [test.path for test in anomalous if test.mask is None]
    if without and any(test.mask for test in anomalous):
        raise ImageError(
            problem=f"{without[0]} has no mask, but others of '{category}' have.",
            fix="Add its mask, or take 'mask' out of the recipe's 'data.images'.",
        )
    return [*normal, *anomalous]


def count_test_images(recipe: Recipe, root: Path, category: str) -> int:
    """How many test images of a category there are, with those that cannot be read."""
    listed = split_images(recipe, root, category)
    return len(listed.test_normal) + len(listed.test_anomalous)


def require_both_kinds(tests: Mapping[str, list[TestImage]], category: str, root: Path) -> None:
    """Raises `ImageError` if there are none of a kind."""
    for kind, images in tests.items():
        if not images:
            raise ImageError(
                problem=f"category '{category}' has no {kind} test images in {root}.",
                fix="Add 'test_normal' and 'test_anomalous' to the recipe's 'data.images', "
                "or check --data.",
            )


def load_mask(image: TestImage, spec: ImageSpec) -> NDArray[np.bool_]:
    """Which pixels of an image are anomalous, (size, size).

    Raises:
        ImageError: If the mask cannot be read, is not of the image's size, or is a photograph.
    """
    if image.mask is None:
        return np.zeros((spec.size, spec.size), bool)
    return read_mask(image.mask, spec, of=image.path)


def read_mask(path: Path, spec: ImageSpec, *, of: Path | None = None) -> NDArray[np.bool_]:
    """Which pixels a mask marks, (size, size).

    Args:
        path: The file of the mask.
        spec: Size of the result; the mode does not matter.
        of: The image whose size it must have, if there is one.

    Raises:
        ImageError: If it cannot be read, is not of the image's size, or is a photograph.
    """
    with opened(path, "mask") as file:
        mask = upright(file)
        levels = len(np.unique(np.asarray(mask)))
        anomalous = marked(mask)
    size_of_image = mask.size if of is None else upright_size(of)
    if mask.size != size_of_image:
        raise ImageError(
            problem=f"the mask {path} is {mask.width} x {mask.height} pixels, its image "
            f"{size_of_image[0]} x {size_of_image[1]}.",
            fix="Save the mask in the size of the image.",
        )
    if levels > MOST_LEVELS:
        raise ImageError(
            problem=f"the mask {path} is not binary: it has {levels} levels.",
            fix="Save it as PNG, 0 where the image is normal and 255 where it is not.",
        )
    # Resized like the image, and then whatever more than half of a pixel shows.
    picture = Image.fromarray(anomalous.astype(np.uint8) * 255)
    square = to_square(picture, path, spec, Image.Resampling.BOX)
    return np.asarray(square) > 127


def marked(mask: Image.Image) -> NDArray[np.bool_]:
    """Which pixels of a mask are not black, (H, W); of a palette whose first is, not the first."""
    numbered = mask.mode == "P" and (mask.getpalette() or [])[:3] == [0, 0, 0]
    one_channel = len(mask.getbands()) == 1 and mask.mode != "P"
    if mask.has_transparency_data or not (numbered or one_channel):
        mask = to_eight_bits(mask)
    # Levels of 16 or 32 bits are taken as they are: rounded to 8, the first would be lost.
    found: NDArray[np.bool_] = np.atleast_3d(np.asarray(mask) > 0).max(axis=2)
    return found
