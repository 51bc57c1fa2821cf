"""Which samples are in the batch of a training step, and with which randomness.

Both follow from the seed and the step, so training resumes at any step without replaying data,
with any number of loader processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from sia_gen.errors import TrainingError, UserError, first_line
from sia_gen.runtime.device import loader_workers


@dataclass(frozen=True)
class BatchOrder:
    """The order in which training goes through `population` images, shuffled in every epoch."""

    seed: int
    population: int
    batch_size: int  # images per process and step
    process_index: int = 0
    num_processes: int = 1

    def first(self, step: int) -> int:
        """Returns the number, in the whole training, of this process's first sample of `step`."""
        return (step * self.num_processes + self.process_index) * self.batch_size

    def positions(self, step: int) -> list[tuple[int, int]]:
        """Returns (epoch, image index) of each sample that this process takes in `step`."""
        first = self.first(step)
        return [self.position(number) for number in range(first, first + self.batch_size)]

    def position(self, number: int) -> tuple[int, int]:
        """Returns (epoch, image index) of a sample by its number in the whole training."""
        epoch, place = divmod(number, self.population)
        return epoch, int(_shuffle(self.seed, epoch, self.population)[place])

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """Returns the randomness of one sample, which (seed, epoch, index) determine."""
        return np.random.default_rng((self.seed, epoch, index))


@lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, population: int) -> NDArray[np.int64]:
    """The order of the images in an epoch, (population,)."""
    return np.random.default_rng((seed, epoch)).permutation(population)


def random_flips(
    images: NDArray[Any], rng: np.random.Generator, horizontal: bool, vertical: bool
) -> NDArray[Any]:
    """Mirrors (..., H, W) along each allowed axis with probability 1/2."""
    if horizontal and rng.random() < 0.5:
        images = images[..., ::-1]
    if vertical and rng.random() < 0.5:
        images = images[..., ::-1, :]
    return images


def batches_of(count: int, batch_size: int) -> list[range]:
    """Returns the numbers from 0 to count - 1 in batches."""
    return [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]


def load_batches(
    batches: Dataset[Any], start: int, stop: int, accelerator: Accelerator, every: int = 1
) -> Iterator[Any]:
    """Yields `batches[start:stop:every]` on the device; for a GPU other processes prepare them.

    What `batches` raises in any process is raised here, and a `TrainingError` if one was killed.
    """
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(
        _Carried(batches),
        batch_size=None,
        sampler=range(start, stop, every),
        num_workers=loader_workers(accelerator),
        # Copies from pinned memory do not block.
        pin_memory=on_gpu,
        # The state of the global generator belongs to the training and is saved with it.
        generator=torch.Generator(),
    )
    try:
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            yield send_to_device(batch, accelerator.device, non_blocking=on_gpu)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            problem=f"a process that prepares batches ended ({first_line(error).rstrip('.')}).",
            fix="Memory has probably run out. Free some, or give a container more shared memory "
            "(docker run --shm-size 8g), then run the same command again.",
        ) from error


class _Carried(Dataset[Any]):
    """Returns an error that the user can fix as an item, because a loader would wrap it."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> Any:
        try:
            return self.batches[number]
        except (UserError, OSError) as error:
            return error
