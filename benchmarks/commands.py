"""Runs sia-gen as a user does: its time, and the most memory that its processes hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MODULE = ["-m", "sia_gen"]


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: By the clock.
        busy: Seconds that cores were busy with it, which other work on the machine hardly moves.
        mebibytes: The peak of the memory of all its processes together.
    """

    seconds: float
    busy: float
    mebibytes: float


def run(*command: str, cwd: Path, processes: int = 1) -> Cost:
    """Runs a command of sia-gen, in several processes if need be."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    start = [sys.executable, *(launcher if processes > 1 else []), *MODULE, *command]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    began, busy, peak = time.monotonic(), cpu_seconds(), 0
    # A pipe would be full one day, and hold the process up.
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(start, cwd=cwd, env=environment, stderr=told)
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.1)
        told.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{told.read().decode()}")
    return Cost(time.monotonic() - began, cpu_seconds() - busy, peak / 2**20)


def cpu_seconds() -> float:
    """Of all processes that have been started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def held(pid: int) -> int:
    """Bytes that a process and its children hold; what they share counts once."""
    total = 0
    try:
        root = psutil.Process(pid)
        for one in [root, *root.children(recursive=True)]:
            total += one.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total
