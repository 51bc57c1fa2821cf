"""The training data of the diffusion model: normal images and the noise that is added to them.

Image, flip, timestep and noise of a sample follow from (seed, epoch, index): a step of two
processes equals a step of one process with twice the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import CategoryImages
from sia_gen.images.loading import ImageSpec, Pixels
from sia_gen.images.store import Images, open_images
from sia_gen.train.batches import BatchOrder, random_flips


@dataclass(frozen=True)
class DiffusionImages:
    """The normal images of one model: those to learn from, and those held out to judge it with.

    Labels are category indices, (N,). `unreadable` counts images left out because they cannot be
    read.
    """

    fit: Images
    labels: NDArray[np.int64]
    held_out: Images
    held_out_labels: NDArray[np.int64]
    unreadable: int = 0


def load_diffusion_images(recipe: Recipe, listed: Sequence[CategoryImages]) -> DiffusionImages:
    """Opens the images of one model, of one or several categories.

    Raises:
        ImageError: If one cannot be read.
    """
    parts = [images.fit for images in listed], [images.validation for images in listed]
    fit, held_out = open_images(
        [list(chain.from_iterable(groups)) for groups in parts],
        ImageSpec.of(recipe, recipe.diffusion.image_size),
    )
    labels, held_out_labels = (
        np.repeat(np.arange(len(groups)), [len(paths) for paths in groups]) for groups in parts
    )
    unreadable = sum(len(images.unreadable) for images in listed)
    return DiffusionImages(fit, labels, held_out, held_out_labels, unreadable)


@dataclass(frozen=True)
class NoiseBatch:
    """A batch to learn from."""

    images: torch.Tensor  # x_0, (B, C, H, W), float32 in [-1, 1]
    noise: torch.Tensor  # standard normal, (B, C, H, W), float32
    timesteps: torch.Tensor  # (B,), int64
    labels: torch.Tensor  # category indices, (B,), int64

    def to(self, device: torch.device) -> NoiseBatch:
        """Returns the batch on another device."""
        on_gpu = device.type == "cuda"
        return NoiseBatch(*(part.to(device, non_blocking=on_gpu) for part in vars(self).values()))

    def pin_memory(self) -> NoiseBatch:
        """Returns the batch in memory that a GPU reads without waiting; see `load_batches`."""
        return NoiseBatch(*(part.pin_memory() for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class NoiseBatches(Dataset[NoiseBatch]):
    """The batches of this process: item `i` is the i-th."""

    images: Images
    labels: NDArray[np.int64]
    order: BatchOrder
    num_timesteps: int
    horizontal_flip: bool = False
    vertical_flip: bool = False

    def __getitem__(self, number: int) -> NoiseBatch:
        samples = [self._sample(*position) for position in self.order.positions(number)]
        images, noise, timesteps, labels = (np.stack(part) for part in zip(*samples, strict=True))
        return NoiseBatch(
            torch.from_numpy(images).float() / 127.5 - 1,
            torch.from_numpy(noise),
            torch.from_numpy(timesteps),
            torch.from_numpy(labels),
        )

    def _sample(
        self, epoch: int, index: int
    ) -> tuple[Pixels, NDArray[np.float32], np.int64, np.int64]:
        rng = self.order.rng(epoch, index)
        image = random_flips(self.images[index], rng, self.horizontal_flip, self.vertical_flip)
        timestep = rng.integers(self.num_timesteps)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return image, noise, timestep, self.labels[index]


def noise_batches(
    recipe: Recipe,
    images: DiffusionImages,
    batch_size: int,
    num_timesteps: int,
    accelerator: Accelerator,
) -> NoiseBatches:
    """Returns the batches of this process."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    return NoiseBatches(
        images.fit,
        images.labels,
        BatchOrder(recipe.seed, len(images.fit), batch_size, rank, processes),
        num_timesteps,
        recipe.diffusion.horizontal_flip,
        recipe.diffusion.vertical_flip,
    )
