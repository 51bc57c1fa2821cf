"""Makes the processes of one run end together.

Where processes meet, they wait for as long as it takes, because one may have many hours more work
than another. So that none waits for a process that has stopped, a thread of each watches the others
through the store of torch.distributed. It ends its own process if another has stopped, whatever the
main thread is doing. Files are whole or absent even then.
"""

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta

from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from sia_gen.errors import UserError, first_line

# The nodes of a cluster may start minutes apart.
_STARTING = timedelta(minutes=10)
SECONDS_BETWEEN_BEATS = 2.0
# Counted instead of timed, so that a process halted in a debugger misses none of the others.
BEATS_MISSED = 60
# A cause that stopped another process may stop this one too, which then reports it better.
SECONDS_TO_SAY_IT_ITSELF = 3.0
_SECONDS_TO_STOP_WATCHING = 5.0
EXIT_STOPPED = 2
STOPPED = (
    "another process of this run stopped. Look at its output, then run the same command again."
)
# Messages of gloo and NCCL about a process that is gone.
_SIGNS = ("closed by peer", "reset by peer", "remote process exited")
# Keys of the store: the second is that of a process that has ended well.
_FAILED, _DONE = "failed", "done/{}"


class _Watch:
    """Watches the other processes through a store that all of them read and write."""

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
        """Ends this process when another has stopped."""
        # The store is gone when the process that holds it has stopped.
        with suppress(DistError):
            while not self.any_stopped():
                if self.left.wait(SECONDS_BETWEEN_BEATS):
                    return
        if not self.left.wait(SECONDS_TO_SAY_IT_ITSELF):
            # The main thread may be in the middle of writing to `sys.stderr`.
            with suppress(OSError):
                os.write(2, f"error: {STOPPED}\n".encode())
            os._exit(EXIT_STOPPED)

    def any_stopped(self) -> bool:
        """Counts a beat of this process, and returns whether another failed or is missing."""
        self.store.add(f"beats/{self.rank}", 1)
        for rank in self.others:
            beats = self.store.add(f"beats/{rank}", 0)
            alive = beats != self.beats[rank] or self.store.check([_DONE.format(rank)])
            self.missed[rank] = 0 if alive else self.missed[rank] + 1
            self.beats[rank] = beats
        return self.store.check([_FAILED]) or max(self.missed.values()) > BEATS_MISSED

    def leave(self, failed: bool | None = None) -> None:
        """Reports how this process ends; None means failed if an error ends the interpreter."""
        if self.left.is_set():
            return
        failed = hasattr(sys, "last_value") if failed is None else failed
        others_done = [_DONE.format(rank) for rank in self.others]
        with suppress(DistError):
            self.store.set(_FAILED if failed else _DONE.format(self.rank), "")
            while self.rank == 0 and not failed and not self.store.check(others_done):
                # This process may hold the store, without which the others would end.
                time.sleep(0.05)
        self.left.set()
        # The thread must not be in C++ code when the interpreter ends.
        self.thread.join(_SECONDS_TO_STOP_WATCHING)


# At most one, once this process has joined the others.
_WATCHES: list[_Watch] = []


def join() -> None:
    """Meets the other processes of a run that a launcher has started, if there are any."""
    if _WATCHES or "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    try:
        store, rank, count = next(rendezvous("env://", timeout=_STARTING))
    except DistError as error:
        raise UserError(
            problem=f"the other processes of this run do not come ({first_line(error)}).",
            fix="Look at their output, and check MASTER_ADDR and MASTER_PORT.",
        ) from error
    _WATCHES.append(_Watch(store, rank, count))
    atexit.register(_WATCHES[0].leave)


def leave(*, failed: bool) -> None:
    """Reports to the other processes, if there are any, how this process ends."""
    for watch in _WATCHES:
        watch.leave(failed)


def explain(error: Exception) -> str | None:
    """Returns a line on an error in meeting a process that is gone; None for other errors."""
    lost = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return STOPPED if _WATCHES and lost else None
