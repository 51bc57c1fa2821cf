"""The training data of the diffusion model: normal images and the noise that is added to them.

Image, flip, timestep and noise of a sample follow from (seed, epoch, index): a step of two
processes equals a step of one process with twice the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sia_gen.config.recipe import Recipe
from sia_gen.images.by_number import Images, drawn, numbers_of
from sia_gen.images.listing import CategoryImages
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import open_images
from sia_gen.train.batches import BatchOrder, random_flips


@dataclass(frozen=True)
class DiffusionImages:
    """The normal images of one model: those to learn from, and those held out to judge it with."""

    fit: Images
    labels: NDArray[np.int64]  # category indices, (N,)
    held_out: Images
    held_out_labels: NDArray[np.int64]
    unreadable: int = 0  # number of images that were left out

    @classmethod
    def of(cls, recipe: Recipe, listed: Sequence[CategoryImages]) -> Self:
        """Opens the images of one model, of one or several categories."""
        parts = [images.fit for images in listed], [images.validation for images in listed]
        paths = [list(chain.from_iterable(groups)) for groups in parts]
        spec = ImageSpec.of(recipe, recipe.diffusion.image_size)
        fit, held_out = open_images(paths, spec)
        labels, held_out_labels = (
            np.repeat(np.arange(len(groups)), list(map(len, groups)))[numbers_of(some)]
            for groups, some in zip(parts, (fit, held_out), strict=True)
        )
        unreadable = sum(len(images.unreadable) for images in listed)
        return cls(fit, labels, held_out, held_out_labels, unreadable)


class NoiseBatch(NamedTuple):
    """A batch to learn from."""

    images: torch.Tensor  # x_0, (B, C, H, W), float32 in [-1, 1]
    noise: torch.Tensor  # standard normal, (B, C, H, W), float32
    timesteps: torch.Tensor  # (B,), int64
    labels: torch.Tensor  # category indices, (B,), int64


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
        samples = []
        for epoch, index in self.order.positions(number):
            rng = self.order.rng(epoch, index)
            image = drawn(self.images, index, rng)
            image = random_flips(image, rng, self.horizontal_flip, self.vertical_flip)
            timestep = rng.integers(self.num_timesteps)
            noise = rng.standard_normal(image.shape, dtype=np.float32)
            samples.append((image, noise, timestep, self.labels[index]))
        pixels, *others = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
        return NoiseBatch(pixels.float() / 127.5 - 1, *others)


def noise_batches(
    recipe: Recipe,
    images: DiffusionImages,
    batch_size: int,
    num_timesteps: int,
    accelerator: Accelerator,
) -> NoiseBatches:
    """Returns the batches of this process."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    order = BatchOrder(recipe.seed, len(images.fit), batch_size, rank, processes)
    flips = (recipe.diffusion.horizontal_flip, recipe.diffusion.vertical_flip)
    return NoiseBatches(images.fit, images.labels, order, num_timesteps, *flips)
