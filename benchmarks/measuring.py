"""What the benchmarks share: the machine in words, runs in turns, tables, and JSON beside them."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.autograd import DeviceType

from sia_gen.runtime.device import environment

CPU_INFO = Path("/proc/cpuinfo")
# Side of the square matrices whose product is the limit that networks are held against.
SIDES = {"cuda": 8192, "cpu": 2048}
# Samples of the paper's corpus, and reverse steps of each.
CORPUS, PAPER_STEPS = 360_000, 20
Result = TypeVar("Result")


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The device, its threads, and the versions of what runs on it."""
    kind = torch.device(device).type
    name = torch.cuda.get_device_name(device) if kind == "cuda" else processor()
    return {"device": name, "threads": torch.get_num_threads(), "versions": environment()}


def processor() -> str:
    """The model of the CPU."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def seconds(run: Callable[[], Any]) -> float:
    """How long something takes, on a GPU too."""
    wait()
    started = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - started


def wait() -> None:
    """Until a GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    prepare: Callable[[str], None] = lambda name: None,
) -> list[dict[str, float]]:
    """Seconds of each run, round by round: a slow minute of the machine falls on all of them.

    A first round, which prepares kernels, does not count; nor does what prepares a run.
    """
    measured: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        measured.append({})
        for name, run in runs.items():
            prepare(name)
            measured[-1][name] = seconds(run)
    return measured[1:]


def median(rounds: Sequence[Mapping[str, float]], name: str) -> float:
    """The median of a run over the rounds."""
    return statistics.median(one[name] for one in rounds)


def ratio(rounds: Sequence[Mapping[str, float]], slow: str, fast: str) -> float:
    """The median over the rounds of how many times faster one run is than another."""
    return statistics.median(one[slow] / one[fast] for one in rounds)


def matrix_product(
    device: torch.device, dtype: torch.dtype, *, tf32: bool = False
) -> tuple[int, Callable[[], Any]]:
    """Operations of a product of large matrices, the limit of any network, and the product."""
    side = SIDES.get(device.type, 2048)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        a @ b
        torch.set_float32_matmul_precision(before)

    return 2 * side**3, product


def peak_memory(run: Callable[[], Any], device: torch.device) -> float:
    """The most memory in GiB that a GPU, or this process, holds during a run."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run()
        return float(torch.cuda.max_memory_allocated() / 2**30)
    # Linux forgets the peak so far.
    Path("/proc/self/clear_refs").write_text("5")
    run()
    return peak_resident() / 2**30


def peak_resident() -> int:
    """The most bytes that this process has ever held, as Linux tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function gives in a process of its own."""
    with get_context("spawn").Pool(1) as process:
        return process.apply(function, arguments)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
        print(f"| {' | '.join(cells)} |", flush=True)


def profile(run: Callable[[], Any], device: torch.device, most: int = 10) -> list[list[Any]]:
    """What bounds a run: the operators, or on a GPU the kernels, that take most of its time.

    Returns:
        Pairs of a name and its share of all, in descending order.
    """
    run()
    with torch.profiler.profile() as profiler:
        run()
        wait()
    on_gpu = device.type == "cuda"
    kind, field = (
        (DeviceType.CUDA, "self_device_time_total")
        if on_gpu
        else (DeviceType.CPU, "self_cpu_time_total")
    )
    taken = {
        event.key: getattr(event, field)
        for event in profiler.key_averages()
        if event.device_type == kind
    }
    whole = sum(taken.values())
    ranked = sorted(taken, key=taken.__getitem__, reverse=True)
    return [[name, taken[name] / whole] for name in ranked[:most]]


def show_profile(name: str, run: Callable[[], Any], device: torch.device) -> list[list[Any]]:
    """Prints what bounds a run, and returns it for the JSON."""
    rows = profile(run, device)
    show(f"What takes the time of: {name}", ["", "share"], rows)
    return rows


def save(name: str, device: torch.device | str, limit: str, result: dict[str, Any]) -> None:
    """Writes a result into the current folder, with the machine and what it is held against."""
    content = {"machine": machine(device), "limit": limit} | result
    Path(f"{name}.json").write_text(json.dumps(content, indent=2, default=str) + "\n")
    here = content["machine"]
    versions = ", ".join(f"{library} {version}" for library, version in here["versions"].items())
    print(f"\nOn {here['device']}, {here['threads']} threads; {versions}.")
    print(f"Held against: {limit}. Written to {name}.json.")
