"""Distance of images from the normal images of a category, in features of the backbone.

As in PatchCore (Roth et al., CVPR 2022), the patches of an image are compared with the nearest
patches of normal images. Here the mean over the patches counts instead of the largest value,
because SDAS changes an image everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist
from torch.nn.functional import avg_pool2d, interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, Pixels, to_picture, to_pixels
from sia_gen.images.store import load_some
from sia_gen.realnet.backbone import Backbone

# Middle layers: those below see texture alone, those above only what ImageNet asked for.
STRIDES = (8, 16)
BANK_PATCHES = 4096
BATCH_SIZE = 16
# Largest number of normal images to compare with.
MOST_NORMAL = 512


@dataclass(frozen=True)
class NormalImages:
    """Normal images of a category, (N, C, H, W), 0 to 255.

    Attributes:
        paths: Path of the photograph of each of `small`.
        small: All images in the size of the samples.
        reference: The first half, enlarged for the backbone.
        apart: The second half, enlarged for the backbone.
    """

    paths: list[Path]
    small: Pixels
    reference: Pixels
    apart: Pixels


def load_normal(recipe: Recipe, category: str, root: Path, size: int) -> NormalImages:
    """Loads the normal images to learn from in the size of the samples, and enlarges them again.

    Otherwise samples would differ from photographs by their sharpness alone.

    Raises:
        ImageError: If there are none.
    """
    listed = list_images(recipe, root, category)
    every = [*listed.fit, *listed.validation]
    paths, small = load_some(every, ImageSpec.of(recipe, size), MOST_NORMAL)
    large = enlarge([to_picture(image) for image in small], recipe.realnet.image_size)
    half = len(large) // 2
    return NormalImages(paths, small, large[:half], large[half:])


def enlarge(images: Sequence[Image.Image], size: int) -> Pixels:
    """Resizes pictures to (N, C, size, size), 0 to 255."""
    squares = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([to_pixels(square) for square in squares])


def open_backbone(recipe: Recipe, weights: Path | None = None) -> Backbone:
    """Opens the pretrained backbone of a recipe, with its weights or those of a file."""
    settings, size = recipe.realnet, recipe.realnet.image_size
    middle = [stride for stride in settings.strides or [] if stride in STRIDES]
    backbone = Backbone(settings.backbone, middle or settings.strides, settings.layers, size)
    backbone.load_weights(settings.weights if weights is None else str(weights))
    return backbone


@dataclass(frozen=True)
class NormalBank:
    """Some patches of the normal images of a category, (P, D), by a standardised backbone."""

    backbone: Backbone
    patches: torch.Tensor

    @classmethod
    def of(
        cls, recipe: Recipe, images: Pixels, device: torch.device, weights: Path | None = None
    ) -> NormalBank:
        """Fills the bank from normal images (N, C, H, W), 0 to 255; see `open_backbone`."""
        backbone = open_backbone(recipe, weights).to(device)
        backbone.standardise(map(backbone, _batches(images, device)))
        (first,) = _batches(images[:1], device)
        total = len(images) * backbone(first)[0][0, 0].numel()
        generator = torch.Generator().manual_seed(recipe.seed)
        chosen = torch.randperm(total, generator=generator)[:BANK_PATCHES].to(device)
        return cls(backbone, _chosen_patches(backbone, images, chosen))

    def distances(
        self, images: Pixels, regions: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Returns the distance of each image (N, C, H, W), 0 to 255, from the normal ones, (N,).

        With regions, (N, H, W) of any size, it is that of the patches there; an empty region stands
        for the whole image.
        """
        found: list[float] = []
        for batch in _batches(images, self.patches.device):
            some = [None] * len(batch) if regions is None else regions[len(found) :]
            every = zip(patch_features(self.backbone, batch), some, strict=False)
            found += [self._distance(patches, region) for patches, region in every]
            # Otherwise the patches would stay in memory until the next ones exist.
            del every
        return np.array(found)

    def _distance(self, patches: torch.Tensor, region: NDArray[np.bool_] | None) -> float:
        apart = torch.cdist(patches, self.patches).amin(dim=1).double()
        if region is not None and region.any():
            apart = apart[_patches_in(region, len(apart)).to(apart.device)]
        return float(apart.mean())

    def summaries(self, images: Pixels) -> NDArray[np.float64]:
        """Returns the mean features of each image (N, C, H, W), which reveal copies, (N, D)."""
        means = [
            patch_features(self.backbone, batch).mean(dim=1).double().cpu().numpy()
            for batch in _batches(images, self.patches.device)
        ]
        return np.concatenate(means)


def patch_features(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
    """Returns the features around each place of the finest layer, (B, P, D), float32."""
    layers = [avg_pool2d(layer.float(), 3, stride=1, padding=1) for layer in backbone(batch)]
    size = layers[0].shape[-2:]
    joined = torch.cat([interpolate(layer, size=size, mode="bilinear") for layer in layers], dim=1)
    return joined.flatten(2).transpose(1, 2)


def nearest(
    images: NDArray[np.float64], normal: NDArray[np.float64], *, others: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns for each summary (N, D) which of the normal ones (M, D) is nearest, and how far.

    If both are the same images, `others` keeps each from being nearest to itself.
    """
    distances = cdist(images, normal)
    if others:
        np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1), distances.min(axis=1)


def _batches(images: Pixels, device: torch.device) -> Iterator[torch.Tensor]:
    """Yields batches for the backbone, (B, 3, H, W) in [0, 1]."""
    for start in range(0, len(images), BATCH_SIZE):
        batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device).float() / 255
        yield batch.expand(-1, 3, -1, -1)


def _patches_in(region: NDArray[np.bool_], patches: int) -> torch.Tensor:
    """Returns which patches of a square image lie at least in part in a region (H, W), (P,)."""
    side = math.isqrt(patches)
    shares = torch.from_numpy(region)[None, None].float()
    return interpolate(shares, (side, side), mode="area").flatten() > 0


def _chosen_patches(backbone: Backbone, images: Pixels, chosen: torch.Tensor) -> torch.Tensor:
    """Returns the patches with some numbers, (C, D), keeping one batch of them in memory."""
    found = torch.empty(len(chosen), sum(backbone.channels), device=chosen.device)
    first = 0
    for batch in _batches(images, chosen.device):
        patches = patch_features(backbone, batch).flatten(0, 1)
        here = (chosen >= first) & (chosen < first + len(patches))
        found[here] = patches[chosen[here] - first]
        first += len(patches)
        # Otherwise they would stay in memory until the next ones exist.
        del patches
    return found
