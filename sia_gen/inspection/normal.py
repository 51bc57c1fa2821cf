"""Normal images as the samples of a model are: of its size, then enlarged for the backbone.

Else samples would be told from photographs by their sharpness alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_images, to_picture, to_pixels
from sia_gen.inspection.distance import Pixels

# Normal images to compare with, at most.
LARGEST = 512


@dataclass(frozen=True)
class NormalImages:
    """Normal images of a category in two halves.

    Attributes:
        paths: Their files, in the order of `small`.
        small: All of them in the size of the samples, (N, C, H, W), 0 to 255.
        reference: The first half, in the size for the backbone.
        apart: The others.
    """

    paths: list[Path]
    small: Pixels
    reference: Pixels
    apart: Pixels


def load_normal(recipe: Recipe, category: str, root: Path, size: int) -> NormalImages:
    """The normal images to learn from; those of the test are not read.

    Args:
        recipe: Of the data set.
        category: Whose images.
        root: Where they lie.
        size: Side of the samples in pixels.

    Raises:
        ImageError: If there are none.
    """
    listed = list_images(recipe, root, category)
    paths = [*listed.fit, *listed.validation][:LARGEST]
    small = load_images(paths, ImageSpec.of(recipe, size))
    large = enlarge([to_picture(image) for image in small], recipe.realnet.image_size)
    half = len(large) // 2
    return NormalImages(paths, small, large[:half], large[half:])


def enlarge(images: Sequence[Image.Image], size: int) -> Pixels:
    """Pictures as (N, C, size, size), 0 to 255."""
    squares = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([to_pixels(square) for square in squares])
