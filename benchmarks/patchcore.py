"""What PatchCore, which learns from normal images alone, reaches on the same cells: image AUROC.

    python benchmarks/patchcore.py --recipe elpv

The backbone of the recipe, at strides 8 and 16, on 256 pixels, and the split of `fit-realnet` and
`evaluate`: all images of good cells that are not for testing fill the bank. As in Roth et al.
(CVPR 2022) a patch is what its neighbourhood of 3 x 3 is on average, in both layers; the bank is a
greedy coreset; an image scores as its patch that is farthest from the bank. Every channel has mean
0 and deviation 1 on normal images, as for RealNet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import save, show

from sia_gen.config.recipe import Recipe
from sia_gen.images.by_number import Images, numbers_of
from sia_gen.images.listing import data_root, list_images, list_labelled_images
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import open_images
from sia_gen.metrics import auroc
from sia_gen.realnet.backbone import Backbone
from sia_gen.realnet.memory import PatchMemory, coreset, neighbourhoods
from sia_gen.realnet.preparation import image_batches as batches_of_images

SIZE, STRIDES, BATCH = 256, (8, 16), 16
MEMORY_SIZE = 5000
LIMIT = "image AUROC 0.5, which chance reaches"


class Bank:
    """A memory of the patches of normal images in all channels of a backbone."""

    def __init__(self, recipe: Recipe, normal: Images, size: int = MEMORY_SIZE) -> None:
        self.backbone = Backbone(recipe.realnet.backbone, STRIDES)
        self.backbone.load_weights(recipe.realnet.weights)
        self.backbone.standardise(map(self.backbone, coloured(normal)))
        self.memory = PatchMemory(sum(self.backbone.channels), size)
        self.memory.fill(
            map(self.features, coloured(normal)), numbers_of(normal).tolist(), recipe.seed, coreset
        )

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The patches of images, (B, C, H, W)."""
        return neighbourhoods(self.backbone(images))

    def distances(self, images: torch.Tensor) -> torch.Tensor:
        """How far each patch is from the bank, (B, 1, H, W)."""
        features = self.features(images)
        return (features - self.memory(features)).square().mean(dim=1, keepdim=True).sqrt()


def coloured(images: Images) -> Iterator[torch.Tensor]:
    """Images in batches, (B, 3, H, W) in [0, 1]."""
    for batch in batches_of_images(images, BATCH, torch.device("cpu")):
        yield batch.expand(-1, 3, -1, -1)


def opened(recipe: Recipe, paths: Sequence[Path], size: int) -> Images:
    """The images of some files, or their tiles."""
    (images,) = open_images([paths], ImageSpec.of(recipe, size))
    return images


def image_batches(recipe: Recipe, paths: Sequence[Path], size: int) -> Iterator[torch.Tensor]:
    """The images of some files, or their tiles, (B, 3, H, W) in [0, 1]."""
    return coloured(opened(recipe, paths, size))


def measure(recipe: Recipe, category: str) -> float:
    """The image AUROC of a category."""
    root = data_root(recipe, None)
    listed = list_images(recipe, root, category)
    bank = Bank(recipe, opened(recipe, [*listed.fit, *listed.validation], SIZE))
    tests = list_labelled_images(recipe, root, category)
    batches = image_batches(recipe, [test.path for test in tests], SIZE)
    scores = torch.cat([bank.distances(images).amax(dim=(1, 2, 3)) for images in batches])
    return auroc(np.array([test.label for test in tests]), scores.numpy())


def main() -> None:
    """Prints a table, and writes `patchcore.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="elpv")
    options = parser.parse_args()
    recipe = Recipe.load(options.recipe)
    rows = [[category, measure(recipe, category)] for category in recipe.categories]
    show("PatchCore", ["category", "image AUROC"], rows)
    save("patchcore", "cpu", LIMIT, vars(options) | {"rows": rows})


if __name__ == "__main__":
    main()
