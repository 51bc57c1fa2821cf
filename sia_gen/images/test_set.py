"""The test images of a category, with what is known of them; read by the evaluation alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.listing import list_images
from sia_gen.images.loading import NonSquare, to_square
from sia_gen.recipe import Recipe

GOOD = "good"
# Masks may number their defects, but a photograph has more levels than that.
MOST_LEVELS = 32


@dataclass(frozen=True)
class TestImage:
    """An image of the test.

    Attributes:
        path: The file.
        name: Its path below the data root.
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

    Raises:
        ImageError: If a kind is missing, or only some of the anomalous ones have a mask.
    """
    listed = list_images(recipe, root, category)
    if not listed.test_normal or not listed.test_anomalous:
        kind = "anomalous" if listed.test_normal else "normal"
        raise ImageError(
            problem=f"category '{category}' has no {kind} test images in {root}.",
            fix="Add 'test_normal' and 'test_anomalous' to the recipe's 'data.images', "
            "or check --data.",
        )
    anomalous = zip(listed.test_anomalous, listed.defects, listed.masks, strict=True)
    without = [
        path for path, mask in zip(listed.test_anomalous, listed.masks, strict=True) if not mask
    ]
    if without and any(listed.masks):
        raise ImageError(
            problem=f"{without[0]} has no mask, but others of '{category}' have.",
            fix="Add its mask, or take 'mask' out of the recipe's 'data.images'.",
        )
    return [TestImage(path, name_below(root, path), GOOD) for path in listed.test_normal] + [
        TestImage(path, name_below(root, path), defect, mask) for path, defect, mask in anomalous
    ]


def name_below(root: Path, path: Path) -> str:
    """The path of a file below a folder."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def load_mask(image: TestImage, size: int, non_square: NonSquare) -> NDArray[np.bool_]:
    """Which pixels of an image are anomalous, (size, size).

    Raises:
        ImageError: If the mask cannot be read, is not of the image's size, or is a photograph.
    """
    if image.mask is None:
        return np.zeros((size, size), bool)
    try:
        with Image.open(image.mask) as file, Image.open(image.path) as photograph:
            sizes = file.size, photograph.size
            pixels = np.asarray(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            problem=f"cannot read the mask {image.mask}: {' '.join(str(error).split())}.",
            fix="Replace the file.",
        ) from error
    if sizes[0] != sizes[1]:
        raise ImageError(
            problem=f"the mask {image.mask} is {sizes[0][0]} x {sizes[0][1]} pixels, its image "
            f"{sizes[1][0]} x {sizes[1][1]}.",
            fix="Save the mask in the size of the image.",
        )
    if len(np.unique(pixels)) > MOST_LEVELS:
        raise ImageError(
            problem=f"the mask {image.mask} is not binary: it has {len(np.unique(pixels))} levels.",
            fix="Save it as PNG, 0 where the image is normal and 255 where it is not.",
        )
    anomalous = (pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=2)) > 0
    # Resized like the image, and then whatever more than half of a pixel shows.
    picture = Image.fromarray(anomalous.astype(np.uint8) * 255)
    square = to_square(picture, image.mask, size, non_square, Image.Resampling.BOX)
    return np.asarray(square) > 127
