"""Runs sia-gen as a user does, with its time and the most memory that its processes hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

MODULE = ["-m", "sia_gen"]


def run(*command: str, cwd: Path, processes: int = 1) -> tuple[float, float]:
    """Runs a command of sia-gen, in several processes if need be.

    Returns:
        Seconds, and the peak of the memory of all processes together, in MiB.
    """
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    start = [sys.executable, *(launcher if processes > 1 else []), *MODULE, *command]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    began, peak = time.monotonic(), 0
    with subprocess.Popen(start, cwd=cwd, env=environment, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.05)
        told = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{told}")
    return time.monotonic() - began, peak / 2**20


def resident(pid: int) -> int:
    """Bytes that a process and its children hold."""
    total = 0
    try:
        root = psutil.Process(pid)
        for one in [root, *root.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
