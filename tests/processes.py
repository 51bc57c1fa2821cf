"""Commands in processes that start at once: forked from one that has imported everything.

Where a fork is not enough, because imports are what is tested, the process starts from nothing.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parents[1]
IMPORTED = [
    "diffusers.pipelines.pipeline_utils",
    "sia_gen.cli.app",
    "sia_gen.composition.compose",
    "sia_gen.corpus.generate",
    "sia_gen.detection.recalibration",
    "sia_gen.diffusion.classifier_training",
    "sia_gen.diffusion.adm.importing",
    "sia_gen.diffusion.training",
    "sia_gen.evaluation.evaluate",
    "sia_gen.evaluation.predict",
    "sia_gen.hub.push",
    "sia_gen.inspection.calibrate",
    "sia_gen.inspection.inspect",
    "sia_gen.deployment.export",
    "sia_gen.realnet.fitting",
    "sia_gen.serving.run",
    "sia_gen.twins.maker",
    "torch.utils.serialization.config",
    "tests.processes",
    "tests.small_networks",
]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(IMPORTED)
# Whatever starts from here finds the package that is tested, in any folder.
os.environ["PYTHONPATH"] = str(ROOT)
# Commands of several processes set it before they import torch, which forks have imported already.
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
TIMEOUT = 600.0
FROM_NOTHING = [sys.executable]
Condition = Callable[[], None]


class Told(NamedTuple):
    """How a command ended, how many seconds that took, and what it printed."""

    code: int
    seconds: float
    text: str

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line."""
        return self.text.splitlines()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process that has all modules, and no other test's state."""
    with ProcessPoolExecutor(1, SERVER, max_tasks_per_child=1) as pool:
        return pool.submit(function, *arguments).result()


class Running:
    """A command at work in a folder.

    Args:
        arguments: Those of sia-gen.
        folder: Where it runs.
        told: The file that it prints to.
        launcher: What starts it from nothing, `FROM_NOTHING` for example; a fork by default.
        environment: On top of this process's own.
        condition: Called in the process that is forked, before the command; of a module that does
            not import the Hub of the tests.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        told: Path,
        *,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        condition: Condition | None = None,
    ) -> None:
        self.told = told
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        options = (arguments, folder, told, everything, launcher, condition)
        self.process: BaseProcess = SERVER.Process(target=become, args=options)
        self.process.start()

    @property
    def number(self) -> int:
        """That of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def wait_until_it_watches(self) -> None:
        """Waits for the thread that watches for Ctrl-C; before, it is Python that is hit."""
        while self.process.is_alive() and psutil.Process(self.number).num_threads() < 2:
            time.sleep(0.002)

    def wait_for(self, pattern: str, folder: Path) -> None:
        """Waits for a file in a folder, which has to come before the end."""
        while not any(folder.glob(pattern)):
            assert not self.ends_within(0.01), self.told.read_text()

    def ends_within(self, seconds: float) -> bool:
        """Waits so long; whether it has come to its end."""
        self.process.join(seconds)
        return not self.process.is_alive()

    def send(self, kind: signal.Signals) -> None:
        # It may have come to its end just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.number, kind)

    def kill(self) -> None:
        """Kills it and what it started, without a chance to tidy up."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.number).children(recursive=True):
                child.kill()
        self.process.kill()
        self.process.join()

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
    launcher: Sequence[str],
    condition: Condition | None,
) -> None:
    """Makes this process the command."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What loads images starts its processes as it does elsewhere.
    multiprocessing.set_start_method(None, force=True)
    if launcher:
        tell_to(told)
        os.chdir(folder)
        os.execv(launcher[0], [*launcher, "-m", "sia_gen", *arguments])
    sys.exit(run_here(arguments, folder, told, condition))


def whole_previews() -> None:
    """A condition that keeps previews as they are in a process that starts from nothing."""


def run_here(
    arguments: Sequence[str], folder: Path, told: Path, condition: Condition | None
) -> int:
    """Runs sia-gen in this process, which is for nothing else."""
    import torch

    from sia_gen.cli import main
    from sia_gen.diffusion import preview

    # What has been imported stays: the collector, which trainings call, need not copy its memory.
    gc.freeze()
    torch.set_num_threads(1)
    if condition is not whole_previews:
        # Previews are to be there, not to be good.
        preview.INVERSION_STEPS = 2
    tell_to(told)
    os.chdir(folder)
    sys.argv = ["sia-gen", *arguments]
    if condition is not None:
        condition()
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def tell_to(told: Path) -> None:
    """From now on this process prints to a file."""
    file = told.open("w", buffering=1)
    sys.stdout, sys.stderr = file, file
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)


def ranks(
    count: int, arguments: Sequence[str], folder: Path, told: str, **options: Any
) -> list[Running]:
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
            **options,
        )
        for rank in range(count)
    ]
