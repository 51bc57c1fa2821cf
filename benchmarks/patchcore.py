"""What PatchCore, which learns from normal images alone, reaches on the same cells: image AUROC.

    python benchmarks/patchcore.py --recipe elpv

The backbone of the recipe, at strides 8 and 16, on 256 pixels, and the split of `fit-realnet` and
`evaluate`: all images of good cells that are not for testing fill the bank. As in Roth et al.
(CVPR 2022) a patch is what its neighbourhood of 3 x 3 is on average, in both layers; the bank keeps
20,000 of them, drawn by chance instead of by their distances; an image scores as its patch that is
farthest from the bank. Every channel has mean 0 and deviation 1 on normal images, as for RealNet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import save, show
from torch.nn.functional import avg_pool2d, interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import data_root, list_images, list_labelled_images
from sia_gen.images.loading import ImageSpec, load_images
from sia_gen.metrics import auroc
from sia_gen.realnet.backbone import Backbone

SIZE, STRIDES, BATCH = 256, (8, 16), 16
BANK = 20_000
LIMIT = "image AUROC 0.5, which chance reaches"


def batches(recipe: Recipe, paths: Sequence[Path]) -> Iterator[torch.Tensor]:
    """The images of some files, (B, 3, H, W) in [0, 1]."""
    for first in range(0, len(paths), BATCH):
        some = paths[first : first + BATCH]
        pixels = load_images(some, ImageSpec.of(recipe, SIZE))
        yield torch.from_numpy(pixels).expand(-1, 3, -1, -1) / 255


def patches(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """The patches of images, (B, patches, channels)."""
    fine, coarse = (avg_pool2d(layer, 3, stride=1, padding=1) for layer in backbone(images))
    enlarged = interpolate(coarse, fine.shape[-2:], mode="bilinear")
    return torch.cat([fine, enlarged], dim=1).flatten(2).transpose(1, 2)


def make_backbone(recipe: Recipe, normal: Sequence[Path]) -> Backbone:
    """The recipe's, standardised on normal images."""
    backbone = Backbone(recipe.realnet.backbone, STRIDES)
    backbone.load_weights(recipe.realnet.weights)
    backbone.standardise(map(backbone, batches(recipe, normal)))
    return backbone


def measure(recipe: Recipe, category: str) -> float:
    """The image AUROC of a category."""
    root = data_root(recipe, None)
    listed = list_images(recipe, root, category)
    normal = [*listed.fit, *listed.validation]
    backbone = make_backbone(recipe, normal)
    torch.manual_seed(0)
    share = -(-BANK // len(normal))
    kept = []
    for images in batches(recipe, normal):
        for found in patches(backbone, images):
            kept.append(found[torch.randperm(len(found))[:share]])
    bank = torch.cat(kept)[torch.randperm(sum(map(len, kept)))[:BANK]]
    tests = list_labelled_images(recipe, root, category)
    scores = [
        float(torch.cdist(found, bank).amin(dim=1).max())
        for images in batches(recipe, [test.path for test in tests])
        for found in patches(backbone, images)
    ]
    return auroc(np.array([test.label for test in tests]), np.array(scores))


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
