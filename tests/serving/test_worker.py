"""One thread works through a bounded queue in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from sia_gen.serving.worker import BatchWorker, QueueFullError


class Doubling:
    """Doubles numbers once it may, and remembers the batches; it cannot double 13."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.begun.set()
        assert self.may.wait(60)
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ValueError(numbers)
        return [2 * number for number in numbers]


def test_batches_are_as_large_as_they_may_be_and_in_order() -> None:
    make = Doubling()
    worker = BatchWorker(make, capacity=10, batch_size=3)
    first = worker.submit(0)
    assert make.begun.wait(60)
    futures = [worker.submit(number) for number in range(1, 8)]
    assert worker.waiting == 7
    make.may.set()
    assert [one.result(60) for one in [first, *futures]] == [2 * number for number in range(8)]
    assert make.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    worker.close()


def test_full_queue_refuses_and_loses_nothing() -> None:
    make = Doubling()
    worker = BatchWorker(make, capacity=2, batch_size=8)
    first = worker.submit(0)
    assert make.begun.wait(60)
    waiting = [worker.submit(1), worker.submit(2)]
    for _ in range(3):
        with pytest.raises(QueueFullError):
            worker.submit(3)
    make.may.set()
    assert [one.result(60) for one in (first, *waiting)] == [0, 2, 4]
    worker.close()


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    make = Doubling()
    worker = BatchWorker(make, capacity=5, batch_size=2)
    futures = [worker.submit(number) for number in range(5)]
    make.may.set()
    worker.close()
    assert [one.result(0) for one in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(QueueFullError):
        worker.submit(1)
    worker.close()


def test_one_that_fails_spoils_no_other() -> None:
    make = Doubling()
    worker = BatchWorker(make, capacity=5, batch_size=5)
    first = worker.submit(0)
    assert make.begun.wait(60)
    futures = [worker.submit(number) for number in (1, 13, 2)]
    make.may.set()
    worker.close()
    assert [one.result(0) for one in (first, futures[0], futures[2])] == [0, 2, 4]
    assert isinstance(futures[1].exception(0), ValueError)


def test_who_left_is_not_worked_for() -> None:
    make = Doubling()
    worker = BatchWorker(make, capacity=5, batch_size=5)
    first = worker.submit(0)
    assert make.begun.wait(60)
    left, stays = worker.submit(1), worker.submit(2)
    assert left.cancel()
    make.may.set()
    worker.close()
    assert (first.result(0), stays.result(0)) == (0, 4)
    assert make.batches == [[0], [2]]
