"""Which samples are in the batch of a training step, and with which randomness.

All of it follows from the seed and the step, so training resumes at any step without replaying
data, with any number of loader processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Subset

from sia_gen.errors import UserError


@dataclass(frozen=True)
class BatchOrder:
    """The order in which training goes through `population` images.

    Attributes:
        seed: Seeds the shuffle of every epoch.
        population: Number of images.
        batch_size: Images per process and step.
        process_index: Rank of this process.
        num_processes: Processes that share a step.
    """

    seed: int
    population: int
    batch_size: int
    process_index: int = 0
    num_processes: int = 1

    def first(self, step: int) -> int:
        """Number, in the whole training, of the first sample this process takes in `step`."""
        return (step * self.num_processes + self.process_index) * self.batch_size

    def positions(self, step: int) -> list[tuple[int, int]]:
        """(epoch, image index) of each sample this process takes in `step`."""
        first = self.first(step)
        return [self.position(number) for number in range(first, first + self.batch_size)]

    def position(self, number: int) -> tuple[int, int]:
        """(epoch, image index) of the `number`-th sample of the whole training."""
        epoch, place = divmod(number, self.population)
        return epoch, int(shuffle(self.seed, epoch, self.population)[place])

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """The randomness of one sample: the same for equal (seed, epoch, index)."""
        return np.random.default_rng((self.seed, epoch, index))


@lru_cache(maxsize=4)
def shuffle(seed: int, epoch: int, population: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, (population,)."""
    return np.random.default_rng((seed, epoch)).permutation(population)


def random_flips(
    images: NDArray[Any], rng: np.random.Generator, horizontal: bool, vertical: bool
) -> NDArray[Any]:
    """Mirrors (..., H, W) along each allowed axis with probability one half."""
    if horizontal and rng.random() < 0.5:
        images = images[..., ::-1]
    if vertical and rng.random() < 0.5:
        images = images[..., ::-1, :]
    return images


def batches_of(count: int, batch_size: int) -> list[range]:
    """The numbers 0 to count - 1 in batches."""
    return [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]


def load_batches(
    batches: Dataset[Any],
    start: int,
    stop: int,
    workers: int,
    every: int = 1,
    *,
    pinned: bool = False,
) -> Iterator[Any]:
    """Yields `batches[start:stop:every]`, prepared by `workers` processes.

    Pinned, by a method `pin_memory` of theirs, they lie where a GPU reads them without waiting.
    """
    loader = DataLoader(
        Carried(Subset(batches, range(start, stop, every))),
        batch_size=None,
        num_workers=workers,
        pin_memory=pinned,
        # Its own generator: the global one belongs to the training and is saved with it.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


class Carried(Dataset[Any]):
    """Batches, or what the user got wrong in one of them.

    Raised in a process that prepares batches, it would come out as an error of that process.
    """

    def __init__(self, batches: Subset[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Any:
        try:
            return self.batches[place]
        except (UserError, OSError) as error:
            return error


def learning_rate_at(
    step: int, base: float, max_steps: int, warmup_steps: int, decay_from: float
) -> float:
    """Linear warm-up, constant, then from `decay_from * max_steps` on linear to zero.

    Returns:
        The rate of the 0-based `step`; it is above zero for every step below `max_steps`.
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    decay_start = decay_from * max_steps
    decay = (max_steps - step) / (max_steps - decay_start) if step > decay_start else 1.0
    return base * warmup * decay
