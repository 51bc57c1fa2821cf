"""Which samples are in which shard, and which shard belongs to which process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ShardPlan:
    """One shard: the samples `first` to `first + samples - 1` of a category, in one tar file."""

    path: str
    category: str
    first: int
    samples: int

    def batches(self, batch_size: int) -> Iterator[range]:
        """The indices of each batch. No batch crosses a shard, so a shard can be made alone."""
        end = self.first + self.samples
        for start in range(self.first, end, batch_size):
            yield range(start, min(start + batch_size, end))


def plan_corpus(
    dataset: str, categories: Sequence[str], images: int, shard_size: int
) -> list[ShardPlan]:
    """The shards of a corpus of `images` samples per category, at most `shard_size` each."""
    count = math.ceil(images / shard_size)
    return [
        ShardPlan(
            path=f"data/{dataset}/{category}/train-{shard:05d}-of-{count:05d}.tar",
            category=category,
            first=shard * shard_size,
            samples=min(shard_size, images - shard * shard_size),
        )
        for category in categories
        for shard in range(count)
    ]


def shards_of_process(
    shards: Sequence[ShardPlan], process_index: int, num_processes: int
) -> list[ShardPlan]:
    """Shard i belongs to process i mod n."""
    return list(shards[process_index::num_processes])
