"""Threads beside a network: images are decoded and pictures written while it computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

MOST_THREADS = 8


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that end with what they are at, if something goes wrong."""
    pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def batches_ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], batches: Iterable[Sequence[Item]]
) -> Iterator[list[Future[Made]]]:
    """What is made of each item of batches, in their order; of one batch ahead, no more."""
    begun: deque[list[Future[Made]]] = deque()
    for batch in batches:
        begun.append([pool.submit(make, item) for item in batch])
        if len(begun) > 1:
            yield begun.popleft()
    yield from begun
