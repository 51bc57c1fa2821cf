"""One thread that works through a bounded queue in batches."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class QueueFullError(Exception):
    """As much waits as may wait."""


class BatchWorker(Generic[Given, Made]):
    """Makes something of each item, of as many as wait at a time, in the order of their arrival.

    Args:
        make: Makes as many results as it is given items. It runs in a single thread. If it raises,
            each item of the batch gets another chance on its own, so that one cannot spoil others.
        capacity: The largest number of items that wait.
        batch_size: The largest number of items to give to `make` at a time.
    """

    def __init__(
        self, make: Callable[[Sequence[Given]], Sequence[Made]], capacity: int, batch_size: int
    ) -> None:
        self.capacity = capacity
        self._make = make
        self._batch_size = batch_size
        # The end, None, always finds room.
        self._waiting = queue.Queue[tuple[Given, Future[Made]] | None](capacity + 1)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scoring")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of items that wait."""
        return self._waiting.qsize()

    def submit(self, item: Given) -> Future[Made]:
        """Puts an item into the queue; `QueueFullError` if that is full or closed."""
        future = Future[Made]()
        with self._lock:
            if self._closed or self._waiting.qsize() >= self.capacity:
                raise QueueFullError
            self._waiting.put_nowait((item, future))
        return future

    def close(self) -> None:
        """Takes no more items, works through those that wait, and returns after that."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put_nowait(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < self._batch_size and batch[-1] is not None:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            ended = batch[-1] is None
            # Whoever waited may have gone.
            asked = [one for one in batch if one and one[1].set_running_or_notify_cancel()]
            if asked:
                self._answer(asked)

    def _answer(self, asked: Sequence[tuple[Given, Future[Made]]]) -> None:
        try:
            found = self._make([item for item, _ in asked])
        except Exception as error:
            if len(asked) == 1:
                asked[0][1].set_exception(error)
            else:
                for one in asked:
                    self._answer([one])
            return
        for (_, future), made in zip(asked, found, strict=True):
            future.set_result(made)
