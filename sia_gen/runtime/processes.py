"""The processes of one run end together: one that fails says so, and one that is gone is missed.

Where they meet, they wait for as long as it takes: one may have many hours of work more than
another. So that none waits for one that is gone, a thread of each looks after the others, by the
store of torch.distributed, and ends its process if one of them has stopped, whatever the main
thread is waiting for. A file is whole or absent even then.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from sia_gen.errors import UserError, first_line

# The nodes of a cluster may start minutes after each other.
STARTING = timedelta(minutes=10)
SECONDS_BETWEEN_BEATS = 2.0
# Counted, not timed: a process that stood still itself, such as in a debugger, misses nobody.
BEATS_MISSED = 60
# What stopped another process may stop this one too, which then says better what it was.
SECONDS_TO_SAY_IT_ITSELF = 3.0
SECONDS_TO_STOP_WATCHING = 5.0
EXIT_STOPPED = 2
STOPPED = (
    "another process of this run stopped. Look at its output, then run the same command again."
)
# What gloo and NCCL say when the process at the other end is gone.
SIGNS = ("closed by peer", "reset by peer", "remote process exited")
FAILED = "failed"


class Fellows:
    """The other processes of a run, as this one sees them.

    Args:
        store: What all of them read and write.
        rank: Of this process.
        count: Of all processes.
    """

    def __init__(self, store: Store, rank: int, count: int) -> None:
        self.store = store
        self.rank = rank
        self.others = sorted(set(range(count)) - {rank})
        self.beats = dict.fromkeys(self.others, 0)
        self.missed = dict.fromkeys(self.others, 0)
        self.left = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        """Shows that this process is alive, and ends it when another has stopped."""
        # Without the process that holds the store there is no run.
        with suppress(DistError):
            while not self.any_stopped():
                if self.left.wait(SECONDS_BETWEEN_BEATS):
                    return
        if not self.left.wait(SECONDS_TO_SAY_IT_ITSELF):
            end()

    def any_stopped(self) -> bool:
        """Whether another process has failed or is missing; to them, this one is alive."""
        self.store.add(f"beats/{self.rank}", 1)
        for rank in self.others:
            beats = self.store.add(f"beats/{rank}", 0)
            alive = beats != self.beats[rank] or self.store.check([done(rank)])
            self.missed[rank] = 0 if alive else self.missed[rank] + 1
            self.beats[rank] = beats
        return self.store.check([FAILED]) or max(self.missed.values()) > BEATS_MISSED

    def leave(self, failed: bool | None = None) -> None:
        """Tells the others how this process ends, as it has to before it does; once is enough.

        Args:
            failed: Whether it fails; if None, whether an error ends the interpreter.
        """
        if self.left.is_set():
            return
        failed = hasattr(sys, "last_value") if failed is None else failed
        with suppress(DistError):
            self.store.set(FAILED if failed else done(self.rank), "")
            while self.rank == 0 and not failed and not self.store.check(self.all_done()):
                # It may hold the store, by which the others see that all is well.
                time.sleep(0.05)
        self.left.set()
        # An interpreter that ends must not meet it in C++.
        self.thread.join(SECONDS_TO_STOP_WATCHING)

    def all_done(self) -> list[str]:
        """The keys of others that have come to a good end."""
        return [done(rank) for rank in self.others]


def done(rank: int) -> str:
    """The key of a process that has come to a good end."""
    return f"done/{rank}"


def end() -> NoReturn:
    """Says why, and ends this process without waiting for threads and libraries."""
    # Not by `sys.stderr`: the main thread may be in the middle of it.
    with suppress(OSError):
        os.write(2, f"error: {STOPPED}\n".encode())
    os._exit(EXIT_STOPPED)


# Those of this process's run, once it has joined them.
FELLOWS: list[Fellows] = []


def join() -> None:
    """Meets the other processes of a run that a launcher has started, if there are any.

    Raises:
        UserError: If they do not come.
    """
    if FELLOWS or "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    try:
        store, rank, count = next(rendezvous("env://", timeout=STARTING))
    except DistError as error:
        raise UserError(
            problem=f"the other processes of this run do not come ({first_line(error)}).",
            fix="Look at their output, and whether MASTER_ADDR and MASTER_PORT are right.",
        ) from error
    FELLOWS.append(Fellows(store, rank, count))
    atexit.register(FELLOWS[0].leave)


def leave(*, failed: bool) -> None:
    """Tells the others, if there are any, how this process ends."""
    for fellows in FELLOWS:
        fellows.leave(failed)


def explain(error: Exception) -> str | None:
    """The line for an error in a meeting with a process that is gone; None for another."""
    lost = isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    return STOPPED if FELLOWS and lost else None
