"""Commands that are broken off: each is a process, fresh or forked from one that imported all.

In a fresh process most moments are those of imports; in one that is forked, of the work itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.end_to_end.conftest import ROOT
from tests.faults.conftest import ALL
from tests.faults.processes import SERVER, run_here, tell_to

TIMEOUT = 240.0
STOPPED = "error: stopped. Run the same command again to go on."
# Beside other tests on too few cores, a second takes longer.
IN_TIME = 2.0 if ALL else 5.0


class Told(NamedTuple):
    """How a process ended, how long that took, and what it printed."""

    code: int
    seconds: float
    text: str


class Running:
    """A command at work in a folder.

    Args:
        arguments: Those of sia-gen.
        folder: Where it runs.
        told: The file that it prints to.
        fresh: Whether it starts from nothing.
        environment: On top of this process's own.
        condition: Called in the process that is forked, before the command.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        told: Path,
        *,
        fresh: bool = False,
        environment: Mapping[str, str] | None = None,
        condition: Callable[[], None] | None = None,
    ) -> None:
        self.told = told
        everything = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        everything |= environment or {}
        options = (arguments, folder, told, everything, fresh, condition)
        self.process: BaseProcess = SERVER.Process(target=become, args=options)
        self.process.start()

    def wait_until_it_watches(self) -> None:
        """Waits for the thread that watches for Ctrl-C; before, it is Python that is hit."""
        assert self.process.pid is not None
        while self.process.is_alive() and psutil.Process(self.process.pid).num_threads() < 2:
            time.sleep(0.002)

    def ends_within(self, seconds: float) -> bool:
        """Waits so long; whether it has come to its end."""
        self.process.join(seconds)
        return not self.process.is_alive()

    def send(self, kind: signal.Signals) -> None:
        assert self.process.pid is not None
        # It may have come to its end just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, kind)

    def end(self, timeout: float = TIMEOUT) -> Told:
        """Waits for its end."""
        began = time.monotonic()
        self.process.join(timeout)
        seconds = time.monotonic() - began
        if self.process.is_alive():
            self.process.kill()
        assert self.process.exitcode is not None, "it goes on and on"
        return Told(self.process.exitcode, seconds, self.told.read_text())

    def done(self) -> Told:
        """Waits for its end, which has to be a good one."""
        told = self.end()
        assert told.code == 0, told.text
        return told


def become(
    arguments: Sequence[str],
    folder: Path,
    told: Path,
    environment: Mapping[str, str],
    fresh: bool,
    condition: Callable[[], None] | None,
) -> None:
    """Makes this process the command."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What loads images starts its processes as it does elsewhere.
    multiprocessing.set_start_method(None, force=True)
    if fresh:
        tell_to(told)
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "sia_gen", *arguments])
    sys.exit(run_here(arguments, folder, told, condition))


def two_workers() -> None:
    """Images are loaded as on a GPU, in processes of their own."""
    from sia_gen.realnet import fitting

    vars(fitting)["loader_workers"] = lambda _: 2


def no_network() -> None:
    """Ends a process that connects to anything."""

    def look(event: str, _: object) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            os._exit(99)

    sys.addaudithook(look)


def ranks(count: int, arguments: Sequence[str], folder: Path, told: str) -> list[Running]:
    """The processes of a run, as a launcher of torch.distributed starts them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Running(
            arguments,
            folder,
            folder / f"{told}-{rank}.txt",
            environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def check_line(told: Told) -> None:
    """Whether Ctrl-C ended a command as it should."""
    assert (told.code, told.text.splitlines()[-1:]) == (1, [STOPPED]), told.text
    assert "Traceback" not in told.text, told.text
    assert told.seconds < IN_TIME
