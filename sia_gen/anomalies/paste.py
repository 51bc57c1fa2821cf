"""Anomalies for training: pieces of SDAS images pasted into normal ones (paper section 3.1).

    A = M * (delta * P + (1 - delta) * N) + (1 - M) * N

N is a normal image, P a synthetic anomalous image of the same category, M a Perlin mask within the
foreground of N and delta the opacity. Part of each batch stays normal, with an empty mask.

In place of A and N there may be twins: an SDAS image, the image of the same noise without strength,
and the mask of what differs in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sia_gen.anomalies.perlin import nonempty_perlin_mask, perlin_mask
from sia_gen.anomalies.sources import Piece, Source, Twin, TwinSource
from sia_gen.images.store import Images
from sia_gen.train.batches import BatchOrder, random_flips

# A foreground that this many Perlin masks miss is so small that all of it may be anomalous.
MAX_DRAWS = 32

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class AnomalyBatch:
    """A batch to learn from.

    Attributes:
        anomalous: A, (B, C, H, W), float32 in [0, 1].
        normal: N, likewise.
        mask: M, (B, 1, H, W), float32, values 0 and 1.
    """

    anomalous: torch.Tensor
    normal: torch.Tensor
    mask: torch.Tensor

    def to(self, device: torch.device) -> AnomalyBatch:
        """The batch on another device."""
        on_gpu = device.type == "cuda"
        return AnomalyBatch(*(part.to(device, non_blocking=on_gpu) for part in vars(self).values()))

    def pin_memory(self) -> AnomalyBatch:
        """The batch where a GPU reads it without waiting."""
        return AnomalyBatch(*(part.pin_memory() for part in vars(self).values()))


@dataclass(frozen=True)
class LocalAnomalies:
    """How anomalies are made.

    Attributes:
        normal: Normal images N.
        sources: Give the images P to paste from, and the range of delta; one per category.
        groups: Which source is that of each N, (n,); the first one of all if None.
        twins: Give twins, one per category.
        twin_fraction: Share of the anomalies that are twins.
        anomalous_fraction: Share of the samples that get an anomaly.
        horizontal_flip: Whether N and P are mirrored at random.
        vertical_flip: Whether they are turned upside down at random.
        foreground: Where each N may become anomalous, (1, H, W), 1 or 0; None is everywhere.
    """

    normal: Images
    sources: Sequence[Source]
    anomalous_fraction: float
    horizontal_flip: bool = False
    vertical_flip: bool = False
    foreground: Images | None = None
    groups: NDArray[np.int64] | None = None
    twins: Sequence[TwinSource] = ()
    twin_fraction: float = 0.0

    def sample(
        self, index: int, rng: np.random.Generator, number: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """A and N, (C, H, W) in [0, 1], and the mask (1, H, W).

        Args:
            index: The normal image.
            rng: Where randomness comes from; the same state gives the same sample.
            number: Of the sample in the training, for the source.
        """
        normal, foreground = self.flipped(index, rng)
        if rng.random() >= self.anomalous_fraction:
            return normal, normal, np.zeros_like(normal[:1])
        group = 0 if self.groups is None else int(self.groups[index])
        if self.twins and rng.random() < self.twin_fraction:
            return self.twin(self.twins[group].draw(number), rng)
        piece = self.sources[group].draw(number, rng)
        anomalous, mask, _ = self.paste(piece, normal, foreground, rng)
        return anomalous, normal, mask

    def twin(
        self, twin: Twin, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """A and N of a twin, (C, H, W) in [0, 1], and its mask (1, H, W), flipped together."""
        stacked = random_flips(np.concatenate(twin), rng, self.horizontal_flip, self.vertical_flip)
        channels = len(twin.normal)
        anomalous, normal, mask = np.split(to_unit_range(stacked), [channels, 2 * channels])
        return anomalous, normal, mask

    def paste(
        self,
        piece: Piece,
        normal: NDArray[np.float32],
        foreground: Pixels | None,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """A, (C, H, W) in [0, 1], with its mask (1, H, W) and delta, for a P and an N."""
        flips = (self.horizontal_flip, self.vertical_flip)
        pasted = to_unit_range(random_flips(piece.pixels, rng, *flips))
        mask = local_mask(rng, normal.shape[-1], foreground)
        opacity = np.float32(rng.uniform(*piece.opacity))
        return blend(normal, pasted, mask, opacity), mask, float(opacity)

    def flipped(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Pixels | None]:
        """N, (C, H, W) in [0, 1], and its foreground, flipped together."""
        flips = (self.horizontal_flip, self.vertical_flip)
        if self.foreground is None:
            return to_unit_range(random_flips(self.normal[index], rng, *flips)), None
        both = np.concatenate([self.normal[index], self.foreground[index]])
        both = random_flips(both, rng, *flips)
        return to_unit_range(both[:-1]), both[-1:]


def local_mask(
    rng: np.random.Generator, size: int, foreground: Pixels | None
) -> NDArray[np.float32]:
    """Draws a Perlin mask within a foreground, (1, size, size), never all zeros.

    If `MAX_DRAWS` masks in turn miss the foreground, the mask is all of it.
    """
    if foreground is None:
        return nonempty_perlin_mask(rng, size)[None]
    for _ in range(MAX_DRAWS):
        mask = perlin_mask(rng, size)[None] * foreground
        if mask.any():
            return mask
    return foreground.astype(np.float32)


def to_unit_range(image: Pixels) -> NDArray[np.float32]:
    """Pixels from 0 to 255 as float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def blend(
    normal: NDArray[np.float32],
    pasted: NDArray[np.float32],
    mask: NDArray[np.float32],
    opacity: np.float32,
) -> NDArray[np.float32]:
    """Pastes `pasted` into `normal` where `mask` is 1, with `opacity`; outside nothing changes."""
    return np.where(mask > 0, opacity * pasted + (1 - opacity) * normal, normal)


class AnomalyBatches(Dataset[AnomalyBatch]):
    """Item `step` is the batch of that step; samples depend on (seed, epoch, index) alone."""

    def __init__(self, anomalies: LocalAnomalies, order: BatchOrder) -> None:
        self.anomalies = anomalies
        self.order = order

    def __getitem__(self, step: int) -> AnomalyBatch:
        first = self.order.first(step)
        positions = self.order.positions(step)
        return collate(
            [
                self.anomalies.sample(index, self.order.rng(epoch, index), number)
                for number, (epoch, index) in enumerate(positions, first)
            ]
        )


def collate(samples: Sequence[tuple[Any, Any, Any]]) -> AnomalyBatch:
    """Stacks samples to a batch."""
    anomalous, normal, mask = (np.stack(part) for part in zip(*samples, strict=True))
    return AnomalyBatch(
        torch.from_numpy(anomalous), torch.from_numpy(normal), torch.from_numpy(mask)
    )
