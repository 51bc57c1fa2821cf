"""How far an image is from its twin at every pixel, in pixels and in features of the backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.realnet.backbone import Backbone, FeatureStatistics

# Layers whose features tell what is where: below is texture alone, above what ImageNet asked for.
STRIDES = (8, 16)
BATCH_SIZE = 16

Distances = NDArray[np.float32]


def open_backbone(recipe: Recipe, weights: Path | None = None) -> Backbone:
    """The pretrained backbone that a recipe names, with weights from there or from a file.

    Raises:
        ModelError: If it or its weights cannot be had.
    """
    settings = recipe.realnet
    strides = [stride for stride in settings.strides if stride in STRIDES] or settings.strides
    backbone = Backbone(settings.backbone, strides)
    backbone.load_weights(settings.weights if weights is None else str(weights))
    return backbone


@dataclass(frozen=True)
class ChangeMeasure:
    """Distances between images, in units of what chance does; see `sia_gen.twins.chance`.

    Attributes:
        backbone: Standardised by normal images.
        size: Side of the images it is given, pixels.
        levels: What chance does to the pixels, and to the features of each layer.
    """

    backbone: Backbone
    size: int
    levels: Sequence[float] = ()

    @classmethod
    def of(cls, backbone: Backbone, size: int, normal: torch.Tensor) -> ChangeMeasure:
        """A measure with all levels 1, standardised by normal images (N, C, H, W) in [0, 1]."""
        own = deepcopy(backbone).to(normal.device)
        statistics = FeatureStatistics(own.channels, normal.device)
        for start in range(0, len(normal), BATCH_SIZE):
            statistics.update(own(enlarged(normal[start : start + BATCH_SIZE], size)))
        own.standardise(statistics)
        return cls(own, size, [1.0] * (1 + len(own.channels)))

    def parts(self, images: torch.Tensor, others: torch.Tensor) -> Iterator[torch.Tensor]:
        """The distances in pixels, and in the features of each layer, (B, H, W), >= 0.

        Args:
            images: (B, C, H, W) in [0, 1].
            others: Likewise.
        """
        yield (images - others).abs().mean(dim=1)
        features = [self.backbone(enlarged(some, self.size)) for some in (images, others)]
        for one, other in zip(*features, strict=True):
            apart = (one - other).square().mean(dim=1, keepdim=True).sqrt()
            yield interpolate(apart, size=images.shape[-2:], mode="bilinear")[:, 0]

    def distances(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """The mean of these distances, each in units of its level, (B, H, W)."""
        parts = zip(self.parts(images, others), self.levels, strict=True)
        return torch.stack([part / level for part, level in parts]).mean(dim=0)


def enlarged(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images (B, 1 or 3, H, W) in [0, 1] as the backbone takes them, (B, 3, size, size)."""
    large = interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return large.clamp(0, 1).expand(-1, 3, -1, -1)
