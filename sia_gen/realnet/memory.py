"""Reconstruction by retrieval: what a patch should look like is its nearest normal patch.

The memory holds patches of normal images, as that of PatchCore does (Roth et al., CVPR 2022), in
the channels that AFS keeps. Unlike a network it cannot reconstruct what it has never seen, and it
needs no training. The residual is still a vector of channels, from which the decoder learns.

Images that the decoder learns from are in the memory themselves, so each is compared with the
patches of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

# Number of distances of each image that are in memory together.
BLOCK = 1 << 20
SMALLEST_DEVIATION = 1e-3
# Below 1, because the decoder can be wrong about anomalies unlike those that it has learned.
DECODER_WEIGHT = 0.5
# That of a decoder of features. Beyond some deviations both maps grow as logarithms, so that
# neither finds alone what the other is silent about.
CONTEXT_WEIGHT, SOFT_LIMIT = 0.6, 3.0
# Number of patches that a memory is chosen from, and of dimensions to measure their distances in.
CANDIDATES, PROJECTED = 100_000, 32

Choice = Callable[[torch.Tensor, int], torch.Tensor]


class PatchMemory(nn.Module):
    """The nearest of some normal patches, for each patch of an image.

    `patches`, (M, C), and the number of the image of each, (M,), are buffers, which are saved with
    the model.
    """

    patches: torch.Tensor
    numbers: torch.Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("patches", torch.zeros(size, channels))
        self.register_buffer("numbers", torch.zeros(size, dtype=torch.int32))

    @torch.no_grad()
    def forward(self, features: torch.Tensor, numbers: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the nearest normal patches, (B, C, H, W), float32.

        Args:
            features: Features, averaged as by `neighbourhoods`, (B, C, H, W).
            numbers: The number of each image, (B,), whose own patches are left out.
        """
        queries = features.float().flatten(2).transpose(1, 2)
        # `len` would be a constant in an exported program.
        images = queries.shape[0]
        norms = self.patches.square().sum(dim=1).expand(images, 1, -1)
        if numbers is not None:
            own = self.numbers == numbers[:, None]
            norms = norms.masked_fill(own[:, None], torch.inf)
        patches = self.patches.T.expand(images, -1, -1)
        together = max(1, BLOCK // len(self.patches))
        found = []
        # In lower precision another patch would be the nearest.
        with torch.autocast(queries.device.type, enabled=False):
            for some in torch.split(queries, together, dim=1):
                found.append(torch.baddbmm(norms, some, patches, alpha=-2).argmin(dim=2))
        nearest = self.patches[torch.cat(found, dim=1)]
        return nearest.transpose(1, 2).reshape(features.shape)

    @torch.no_grad()
    def fill(
        self,
        batches: Iterable[torch.Tensor],
        images: Sequence[int],
        seed: int,
        choose: Choice,
    ) -> None:
        """Keeps patches of normal images, chosen among as many of each.

        Args:
            batches: The features of all images in order, each (B, C, H, W).
            images: The number of each image, which its patches are left out by; several tiles of a
                photograph share one.
            seed: Decides which patches are kept.
            choose: Takes patches (N, C) and a number, and returns as many indices of them.
        """
        size, generator = len(self.patches), torch.Generator().manual_seed(seed)
        share = math.ceil(max(size, CANDIDATES) / len(images))
        kept, numbers = list[torch.Tensor](), list[torch.Tensor]()
        for features in batches:
            for patches in features.float().flatten(2).transpose(1, 2):
                # Of images that have fewer patches than that all are candidates.
                order = torch.randperm(len(patches), generator=generator)[:share]
                kept.append(patches[order.to(patches.device)])
                number = images[len(numbers)]
                numbers.append(torch.full((len(order),), number, dtype=torch.int32))
        candidates, of = torch.cat(kept), torch.cat(numbers)
        order = torch.randperm(len(candidates), generator=generator)[: max(size, CANDIDATES)]
        candidates, of = candidates[order.to(candidates.device)], of[order]
        chosen = choose(candidates, min(size, len(candidates))).cpu()
        # A small data set has fewer patches than the memory, which then holds some twice.
        chosen = chosen[torch.arange(size) % len(chosen)]
        self.patches.copy_(candidates[chosen.to(candidates.device)])
        self.numbers.copy_(of[chosen])


def first_of(patches: torch.Tensor, size: int) -> torch.Tensor:
    """Returns the indices of the first patches; whoever shuffled them has chosen by chance."""
    return torch.arange(size, device=patches.device)


@torch.no_grad()
def coreset(
    patches: torch.Tensor, size: int, advance: Callable[[], None] = lambda: None
) -> torch.Tensor:
    """Returns the indices of patches that are far apart: each is the farthest from those before.

    Rare patches are kept, which a choice by chance would miss (Roth et al., CVPR 2022, section
    3.2). As there, distances are measured in a random projection, which hardly changes them.

    Args:
        patches: The candidates, (N, C); the first is chosen first.
        size: Number of patches to choose, at most N.
        advance: Called after each choice.
    """
    projection = torch.randn(
        patches.shape[1], PROJECTED, generator=torch.Generator().manual_seed(0)
    )
    points = patches.float() @ projection.to(patches.device)
    norms = points.square().sum(dim=1)
    # Squared distance of each candidate from the nearest that is chosen.
    nearest = torch.full_like(norms, torch.inf)
    chosen = torch.zeros(size, dtype=torch.long, device=points.device)
    for place in range(size):
        # The index stays on the device, which a GPU would have to be waited for otherwise.
        last = chosen[place : place + 1]
        distance = norms + norms[last] - 2 * (points @ points[last][0])
        nearest = torch.minimum(nearest, distance).index_fill_(0, last, -1)
        if place + 1 < size:
            chosen[place + 1] = nearest.argmax()
        advance()
    return chosen


class MapFusion(nn.Module):
    """Adds up the maps of distances and of the decoder, each in units of normal pixels.

    The buffers hold the mean and the deviation of both over the pixels of normal images.

    Args:
        weight: Weight of the decoder's map.
        limit: Deviations beyond which both grow as logarithms, if given.
    """

    means: torch.Tensor
    deviations: torch.Tensor

    def __init__(self, weight: float = DECODER_WEIGHT, limit: float | None = None) -> None:
        super().__init__()
        self.weight, self.limit = weight, limit
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("deviations", torch.ones(2))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns the weighted sum, (B, 1, H, W), of both maps (B, 2, H, W)."""
        standard = (maps - self.means.view(1, 2, 1, 1)) / self.deviations.view(1, 2, 1, 1)
        if self.limit is not None:
            standard = self.limit * (standard / self.limit).asinh()
        return standard[:, :1] + self.weight * standard[:, 1:]

    def measure(self, batches: Iterable[torch.Tensor]) -> None:
        """Takes means and deviations from both maps of normal images, each (B, 2, H, W)."""
        # Number, sum and sum of the squares of the values of both maps.
        sums = torch.zeros(3, 2, dtype=torch.float64)
        for maps in batches:
            values = maps.transpose(0, 1).flatten(1).double().cpu()
            sums += torch.stack([torch.ones_like(values), values, values.square()]).sum(dim=2)
        count, total, squares = sums
        variance = (squares / count - (total / count).square()).clamp(min=0)
        self.means.copy_(total / count)
        self.deviations.copy_(variance.sqrt().clamp(min=SMALLEST_DEVIATION))


def neighbourhoods(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """Averages each layer (B, C_i, H_i, W_i) over 3 x 3 places, all in the size of the first.

    A patch of PatchCore sees its neighbourhood; (B, C, H, W).
    """
    layers = [avg_pool2d(layer.float(), 3, stride=1, padding=1) for layer in features]
    size = layers[0].shape[-2:]
    return torch.cat([interpolate(layer, size=size, mode="bilinear") for layer in layers], dim=1)
