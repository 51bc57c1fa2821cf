"""The test images of a category with their ground truth; only the evaluation reads them."""

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
    open_image,
    to_eight_bits,
    to_square,
    upright,
    upright_size,
)

GOOD = "good"
# Masks may number their defects, but photographs have more levels than this.
MOST_LEVELS = 32


@dataclass(frozen=True)
class TestImage:
    """A test image, its name in published files (see `name_below`), its defect and ground truth."""

    # Its name makes pytest look for tests in it.
    __test__ = False

    path: Path
    name: str
    defect: str
    mask: Path | None = None

    @property
    def label(self) -> int:
        """1 if the image is anomalous, else 0."""
        return int(self.defect != GOOD)


def list_test_images(recipe: Recipe, root: Path, category: str) -> list[TestImage]:
    """Returns the test images of a category, normal ones first.

    If the recipe allows it, those that cannot be read are left out, and a line on stderr reports
    them.

    Raises:
        ImageError: If there are no normal or no anomalous ones, or only some of the latter have a
            mask.
    """
    listed = split_images(recipe, root, category)
    normal = [TestImage(path, name_below(root, path), GOOD) for path in listed.test_normal]
    anomalous = [
        TestImage(image.path, name_below(root, image.path), image.defect, image.mask)
        for image in listed.test_anomalous
    ]
    if recipe.data.unreadable == "skip":
        paths = [test.path for test in (*normal, *anomalous)]
        unreadable = find_unreadable(paths, f"{category}, test")
        normal = [test for test in normal if test.path not in unreadable]
        anomalous = [test for test in anomalous if test.path not in unreadable]
    for kind, images in (("normal", normal), ("anomalous", anomalous)):
        if not images:
            raise ImageError(
                problem=f"category '{category}' has no {kind} test images in {root}.",
                fix="Add 'test_normal' and 'test_anomalous' to the recipe's 'data.images', "
                "or check --data.",
            )
    without = [test.path for test in anomalous if test.mask is None]
    if 0 < len(without) < len(anomalous):
        raise ImageError(
            problem=f"{without[0]} has no mask, but others of '{category}' have.",
            fix="Add its mask, or remove 'mask' from the recipe's 'data.images'.",
        )
    return [*normal, *anomalous]


def count_test_images(recipe: Recipe, root: Path, category: str) -> int:
    """Returns the number of test images of a category, unreadable ones included."""
    listed = split_images(recipe, root, category)
    return len(listed.test_normal) + len(listed.test_anomalous)


def load_mask(image: TestImage, spec: ImageSpec) -> NDArray[np.bool_]:
    """Returns which pixels of an image are anomalous, (size, size); see `read_mask`."""
    if image.mask is None:
        return np.zeros((spec.size, spec.size), bool)
    return read_mask(image.mask, spec, of=image.path)


def read_mask(path: Path, spec: ImageSpec, *, of: Path | None = None) -> NDArray[np.bool_]:
    """Returns which pixels a mask marks, (size, size); the mode of `spec` does not matter.

    Raises:
        ImageError: If it cannot be read, differs in size from the image `of`, or is a photograph.
    """
    with open_image(path, "mask") as file:
        mask = upright(file)
        levels = len(np.unique(np.asarray(mask)))
        marked = _marked(mask)
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
    picture = Image.fromarray(marked.astype(np.uint8) * 255)
    # A pixel is marked if more than half of it was before resizing.
    return np.asarray(to_square(picture, path, spec, Image.Resampling.BOX)) > 127


def _marked(mask: Image.Image) -> NDArray[np.bool_]:
    """Returns which pixels are not black, (H, W); in a palette, which are not its first colour."""
    numbered = mask.mode == "P" and (mask.getpalette() or [])[:3] == [0, 0, 0]
    one_channel = len(mask.getbands()) == 1 and mask.mode != "P"
    if mask.has_transparency_data or not (numbered or one_channel):
        mask = to_eight_bits(mask)
    # Levels of 16 or 32 bits stay as they are, because rounding to 8 bits would lose the first.
    found: NDArray[np.bool_] = np.atleast_3d(np.asarray(mask) > 0).max(axis=2)
    return found
