"""What threads make beside other work: in order, and no more than asked for."""

from __future__ import annotations

import threading

import pytest

from sia_gen.io.files import batches_ahead, worker_threads


def test_batches_come_in_order_one_ahead() -> None:
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError(number)
        return number**2

    batches = [[0, 1], [2, 3], [4], [5, 6]]
    with worker_threads() as pool:
        found = batches_ahead(pool, square, batches)
        assert [one.result() for one in next(found)] == [0, 1]
        assert set(begun) <= {0, 1, 2, 3}
        first, second = next(found)
        assert first.result() == 4
        # What goes wrong with one concerns no other.
        with pytest.raises(ValueError, match="3"):
            second.result()
        assert [[one.result() for one in batch] for batch in found] == [[16], [25, 36]]


def test_threads_end_without_what_has_not_begun() -> None:
    free, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        free.wait(5)
        done.append(number)

    def interrupted() -> None:
        with worker_threads() as pool:
            for number in range(100):
                pool.submit(work, number)
            threading.Timer(0.05, free.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) < 100
