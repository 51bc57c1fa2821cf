"""How far images are from the normal images of a category, in features of the backbone.

As in PatchCore (Roth et al., CVPR 2022) an image is as far as its patches are from the nearest
patches of normal images; unlike there the mean over the patches counts, since SDAS changes an image
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d, interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.realnet.backbone import Backbone, FeatureStatistics

Pixels = NDArray[np.uint8]

# The middle layers: below them is texture alone, above them what ImageNet asked for.
STRIDES = (8, 16)
BANK_PATCHES = 4096
BATCH_SIZE = 16


@dataclass(frozen=True)
class NormalBank:
    """The normal images of a category, as patches to compare with; see `NormalBank.of`.

    Attributes:
        backbone: Standardised by the normal images.
        patches: (P, D), float32, some patches of the normal images.
    """

    backbone: Backbone
    patches: torch.Tensor

    @classmethod
    def of(
        cls, recipe: Recipe, images: Pixels, device: torch.device, weights: Path | None = None
    ) -> NormalBank:
        """Fills the bank from normal images (N, C, H, W), 0 to 255.

        Raises:
            ModelError: If the backbone or its weights cannot be had.
        """
        backbone = open_backbone(recipe, weights).to(device)
        statistics, total = FeatureStatistics(backbone.channels, device), 0
        for batch in batches(images, device):
            layers = backbone(batch)
            statistics.update(layers)
            total += layers[0][:, 0].numel()
        backbone.standardise(statistics)
        generator = torch.Generator().manual_seed(recipe.seed)
        chosen = torch.randperm(total, generator=generator)[:BANK_PATCHES].to(device)
        return cls(backbone, chosen_patches(backbone, batches(images, device), chosen))

    def distances(self, images: Pixels) -> NDArray[np.float64]:
        """The distance of each image (N, C, H, W), 0 to 255, from the normal ones: (N,), >= 0."""
        found = [
            [
                float(torch.cdist(patches, self.patches).amin(dim=1).double().mean())
                for patches in patch_features(self.backbone, batch)
            ]
            for batch in batches(images, self.patches.device)
        ]
        return np.concatenate(found)

    def summaries(self, images: Pixels) -> NDArray[np.float64]:
        """What images (N, C, H, W) show on the whole, to tell copies: (N, D), mean features."""
        means = [
            patch_features(self.backbone, batch).mean(dim=1).double().cpu().numpy()
            for batch in batches(images, self.patches.device)
        ]
        return np.concatenate(means)


def open_backbone(recipe: Recipe, weights: Path | None = None) -> Backbone:
    """Opens the pretrained backbone of a recipe, with its weights or those of a file.

    Raises:
        ModelError: If it or its weights are unavailable.
    """
    settings = recipe.realnet
    strides = [stride for stride in settings.strides if stride in STRIDES]
    backbone = Backbone(settings.backbone, strides or settings.strides)
    backbone.load_weights(settings.weights if weights is None else str(weights))
    return backbone


def batches(images: Pixels, device: torch.device) -> Iterator[torch.Tensor]:
    """Images as batches for the backbone, (B, 3, H, W) in [0, 1]."""
    for start in range(0, len(images), BATCH_SIZE):
        batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device).float() / 255
        yield batch.expand(-1, 3, -1, -1)


def chosen_patches(
    backbone: Backbone, images: Iterable[torch.Tensor], chosen: torch.Tensor
) -> torch.Tensor:
    """Some of all patches of batches of images, of which no more than one batch's are kept.

    Args:
        backbone: Standardised.
        images: Batches, (B, 3, H, W) in [0, 1].
        chosen: Numbers of the patches, in the order of the images and their places, (C,).

    Returns:
        (C, D), float32.
    """
    found = torch.empty(len(chosen), sum(backbone.channels), device=chosen.device)
    first = 0
    for batch in images:
        patches = patch_features(backbone, batch).flatten(0, 1)
        here = (chosen >= first) & (chosen < first + len(patches))
        found[here] = patches[chosen[here] - first]
        first += len(patches)
        # Else they would stay until the next ones are there.
        del patches
    return found


def patch_features(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
    """The features around each place of the finest layer, (B, P, D), float32."""
    layers = [avg_pool2d(layer.float(), 3, stride=1, padding=1) for layer in backbone(batch)]
    size = layers[0].shape[-2:]
    joined = torch.cat([interpolate(layer, size=size, mode="bilinear") for layer in layers], dim=1)
    return joined.flatten(2).transpose(1, 2)


def nearest(
    images: NDArray[np.float64], normal: NDArray[np.float64], *, others: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each summary the nearest of the normal ones.

    Args:
        images: (N, D).
        normal: (M, D).
        others: Whether the two are the same images, of which none counts as near to itself.

    Returns:
        Which it is, (N,), and how far, (N,), Euclidean.
    """
    squares = (images**2).sum(1)[:, None] + (normal**2).sum(1)[None] - 2 * images @ normal.T
    if others:
        np.fill_diagonal(squares, np.inf)
    found = squares.argmin(axis=1)
    return found, np.sqrt(squares.min(axis=1).clip(min=0))
