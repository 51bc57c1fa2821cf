"""Writes shards behind the sampling: encoding and disk take no time of the accelerator's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from types import TracebackType
from typing import Self

from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.shards import Sample, ShardFile, write_shard
from sia_gen.io.locations import Location

# Enough that neither side waits for the other's unevenness, few enough for any memory.
BATCHES_AHEAD = 8
ENCODERS = min(4, os.cpu_count() or 1)

Encode = Callable[[], list[Sample]]
Encoded = Future[list[Sample]]


class AbandonedError(Exception):
    """The samples of a shard ended before it was whole; it is not kept."""


class ShardWriter:
    """Encodes samples in threads, and writes them to shards in another, in their order.

    Args:
        corpus: Where the shards go.
        written: Called in the writing thread for every shard that is there.

    Use it as a context manager: leaving it waits until all is written, or, on an error, drops
    the shard that is not whole. What went wrong in a thread is raised by `put` or on leaving.
    """

    def __init__(self, corpus: Location, written: Callable[[ShardPlan, ShardFile], None]) -> None:
        self.corpus = corpus
        self.written = written
        self.encoders = ThreadPoolExecutor(ENCODERS)
        self.writer = ThreadPoolExecutor(1)
        self.queue: Queue[Encoded | None] = Queue(BATCHES_AHEAD)
        self.shards: list[Future[None]] = []
        self.missing = 0
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.missing:
            self.hand_over(None)
        self.encoders.shutdown()
        self.writer.shutdown()
        if error is None:
            self.raise_failure()

    def begin(self, shard: ShardPlan) -> None:
        """What is put from now on belongs to this shard, until it has all of its samples."""
        self.missing = shard.samples
        self.shards.append(self.writer.submit(self.write, shard))

    def put(self, encode: Encode, samples: int) -> None:
        """Takes the next samples; waits if the writing is far behind.

        Args:
            encode: Returns their members; called in a thread.
            samples: How many there are.
        """
        if not self.hand_over(self.encoders.submit(encode)):
            self.raise_failure()
        self.missing -= samples

    def hand_over(self, batch: Encoded | None) -> bool:
        """Queues a batch, or None for the end of a shard that is not whole; False if it failed."""
        while not self.shards[-1].done():
            try:
                self.queue.put(batch, timeout=1)
            except Full:
                continue
            return True
        return False

    def raise_failure(self) -> None:
        """Raises what went wrong in the writing thread, if anything did."""
        for shard in self.shards:
            if shard.done():
                shard.result()

    def write(self, shard: ShardPlan) -> None:
        """Writes one shard; runs in the writing thread."""
        # After a failure the queue holds samples of the shard that failed.
        if self.failed:
            raise AbandonedError
        try:
            file = write_shard(self.corpus / shard.path, self.samples(shard.samples))
            self.written(shard, file)
        except BaseException:
            self.failed = True
            raise

    def samples(self, count: int) -> Iterator[Sample]:
        """The next samples of the queue, as they come."""
        while count:
            batch = self.queue.get()
            if batch is None:
                raise AbandonedError
            yield from batch.result()
            count -= len(batch.result())
