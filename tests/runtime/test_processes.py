"""Processes of one run end together, seen from real ones that meet by gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from accelerate import Accelerator

from sia_gen.cli import app
from sia_gen.config import recipe_file
from sia_gen.errors import OptionError
from sia_gen.runtime import processes
from sia_gen.runtime.device import Runtime
from tests.processes import ROOT, SERVER, tell_to

STOPPED = (
    "error: another process of this run stopped. Look at its output, then run the same command "
    "again."
)
PROGRAM = """
import time
from sia_gen.runtime.device import Runtime
accelerator = Runtime("fp32", "cpu").accelerator()
time.sleep(accelerator.process_index)
"""
KILLED = """
import os, sys
from sia_gen.config import recipe_file
from sia_gen.cli import main

def command():
    from sia_gen.runtime.device import Runtime
    accelerator = Runtime("fp32", "cpu").accelerator()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.kill(os.getpid(), 9)
    accelerator.wait_for_everyone()

recipe_file.recipe_names = command
sys.argv = ["sia-gen", "recipes"]
main()
"""
Deed = Callable[[Accelerator], None]


def fail(_: Accelerator) -> None:
    raise OptionError(problem="It is wrong.", fix="Correct it.")


def be_killed(_: Accelerator) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def meet(accelerator: Accelerator) -> None:
    accelerator.wait_for_everyone()


def work(_: Accelerator) -> None:
    time.sleep(60)


def work_a_while(_: Accelerator) -> None:
    # Longer than it takes to be missed.
    time.sleep(3)


def end(_: Accelerator) -> None:
    pass


def shared_environment(count: int) -> dict[str, str]:
    """What a launcher tells all processes of a run."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    return {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def act(deed: Deed, environment: dict[str, str], told: Path) -> None:
    """A command that meets the others, and then does something."""
    tell_to(told)
    os.environ |= environment
    processes.SECONDS_BETWEEN_BEATS, processes.BEATS_MISSED = 0.1, 20
    processes.SECONDS_TO_SAY_IT_ITSELF = 0.5

    def command() -> list[str]:
        accelerator = Runtime("fp32", "cpu").accelerator()
        accelerator.wait_for_everyone()
        deed(accelerator)
        return []

    recipe_file.recipe_names = command
    sys.argv = ["sia-gen", "recipes"]
    app.main()


def run(folder: Path, *deeds: Deed) -> list[tuple[int | None, list[str]]]:
    """Has a process do each of some deeds; returns their exit codes and what they say."""
    shared, started = shared_environment(len(deeds)), list[BaseProcess]()
    for rank, deed in enumerate(deeds):
        ours = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(SERVER.Process(target=act, args=(deed, ours, folder / str(rank))))
        started[-1].start()
    for process in started:
        process.join(50)
        process.kill()
    told = [(folder / str(rank)).read_text().splitlines() for rank in range(len(deeds))]
    return [(process.exitcode, lines) for process, lines in zip(started, told, strict=True)]


def said(lines: list[str]) -> list[str]:
    """What a process says, but for what PyTorch logs of lost connections if imported before."""
    return [line for line in lines if line.startswith(("error", "warning", "Traceback"))]


@pytest.mark.parametrize("other", [meet, work])
@pytest.mark.parametrize("failing", [0, 1])
def test_others_end_when_a_process_fails(tmp_path: Path, other: Deed, failing: int) -> None:
    ended = run(tmp_path, *([fail, other] if failing == 0 else [other, fail]))
    assert ended[failing] == (2, ["error: It is wrong. Correct it."])
    code, lines = ended[1 - failing]
    assert (code, said(lines)) == (2, [STOPPED])


@pytest.mark.parametrize("other", [meet, work])
@pytest.mark.parametrize("killed", [0, 1])
def test_others_end_when_a_process_is_killed(tmp_path: Path, other: Deed, killed: int) -> None:
    ended = run(tmp_path, *([be_killed, other] if killed == 0 else [other, be_killed]))
    assert ended[killed] == (-signal.SIGKILL, [])
    code, lines = ended[1 - killed]
    assert (code, said(lines)) == (2, [STOPPED])


def test_both_say_what_stopped_them(tmp_path: Path) -> None:
    assert run(tmp_path, fail, fail) == 2 * [(2, ["error: It is wrong. Correct it."])]


@pytest.mark.parametrize("deeds", [(end, work_a_while), (work_a_while, end)])
def test_one_may_end_long_before_the_other(tmp_path: Path, deeds: tuple[Deed, Deed]) -> None:
    assert run(tmp_path, *deeds) == 2 * [(0, [])]


@pytest.mark.parametrize(
    ("code", "ended"),
    [(PROGRAM, [(0, ""), (0, "")]), (KILLED, [(-signal.SIGKILL, ""), (2, f"{STOPPED}\n")])],
    ids=["of one's own", "that is killed"],
)
def test_fresh_program(code: str, ended: list[tuple[int, str]]) -> None:
    shared = shared_environment(2) | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | shared | {"RANK": rank},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    told = [process.communicate(timeout=100)[1] for process in started]
    assert [(one.returncode, lines) for one, lines in zip(started, told, strict=True)] == ended
