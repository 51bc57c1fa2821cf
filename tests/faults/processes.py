"""Commands in processes that start at once: forked from one that has imported everything.

Whoever runs them may have a file system of their own meanwhile, full or read-only, that ends with
them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

IMPORTED = [
    "sia_gen.cli.app",
    "sia_gen.composition.compose",
    "sia_gen.corpus.generate",
    "sia_gen.diffusion.classifier_training",
    "sia_gen.diffusion.importing",
    "sia_gen.diffusion.training",
    "sia_gen.evaluation.evaluate",
    "sia_gen.evaluation.predict",
    "sia_gen.hub.push",
    "sia_gen.inspection.calibrate",
    "sia_gen.inspection.inspect",
    "sia_gen.realnet.export",
    "sia_gen.realnet.fitting",
]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(IMPORTED)
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
Condition = Callable[[], None]


class Told(NamedTuple):
    """How a command ended, and the lines it printed."""

    code: int
    lines: list[str]


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process that has all modules, and no other test's state."""
    with ProcessPoolExecutor(1, SERVER, max_tasks_per_child=1) as pool:
        return pool.submit(function, *arguments).result()


def own_mounts() -> None:
    """From now on this process mounts for itself alone; nobody needs to be root for it."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def begin(
    arguments: Sequence[str], folder: Path, told: Path, condition: Condition | None = None
) -> int:
    """Forks a process that runs sia-gen in a folder; returns its number."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            code = run_here(arguments, folder, told, condition)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return number


def run_here(
    arguments: Sequence[str], folder: Path, told: Path, condition: Condition | None
) -> int:
    """Runs sia-gen in this process, which is for nothing else."""
    import torch

    from sia_gen.cli import main

    torch.set_num_threads(1)
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


def end(number: int, told: Path) -> Told:
    """Waits for a process; tells how it ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    return Told(code, told.read_text().splitlines())


def run(arguments: Sequence[str], folder: Path, condition: Condition | None = None) -> Told:
    """Runs sia-gen in a folder."""
    told = folder / "told"
    return end(begin(arguments, folder, told, condition), told)
