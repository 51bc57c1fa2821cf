"""Ctrl-C where it is not heard: in libraries, in other processes, at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sia_gen.config.recipe import Recipe
from tests.conditions import two_workers
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import CommandLine
from tests.faults.breaking import STOPPED, check_line, in_time
from tests.faults.conftest import ALL, Tried, times
from tests.processes import FROM_NOTHING, ROOT, Running, ranks

BEFORE = """
import atexit, contextlib, ctypes, pathlib, sys, tempfile, threading, time
import sia_gen.config.recipe_file
from sia_gen.cli import main

def wait(seconds=60):
    print("waiting", flush=True)
    time.sleep(seconds)
    return []
"""
# What the command does when Ctrl-C is pressed.
PLACES = {
    "sleeping": "return wait()",
    "catching all there is": """
        while True:
            with contextlib.suppress(BaseException):
                wait()
    """,
    "raising something else": """
        try:
            wait()
        except BaseException:
            raise RuntimeError
    """,
    "tidying up for long": """
        try:
            wait()
        finally:
            time.sleep(60)
    """,
    "waiting in C": """
        library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        print("waiting", flush=True)
        for _ in range(2):
            library.pthread_mutex_lock(lock)
    """,
    "importing what ends at any exception": """
        module = "import __main__, os\\ntry: __main__.wait()\\nexcept BaseException: os.abort()"
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "fragile.py").write_text(module)
            sys.path.insert(0, folder)
            import fragile
        return []
    """,
    "waiting for a thread at the end": """
        threading.Thread(target=time.sleep, args=(60,)).start()
        return wait()
    """,
    "ending": "atexit.register(wait, 1); return []",
}
CPU = ["--device", "cpu", "--precision", "fp32"]
SYNTHESIZE = ["synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate launch": ["accelerate.commands.launch", "--cpu", "--num_processes", "1"],
}


@pytest.mark.parametrize("place", PLACES)
def test_it_ends_in_time_wherever_it_is(place: str, tried: Tried) -> None:
    body = "".join(f"\n    {line.removeprefix('    ' * 2)}" for line in PLACES[place].splitlines())
    code = f"{BEFORE}\ndef names():{body}\n\nsia_gen.config.recipe_file.recipe_names = names"
    command = [sys.executable, "-c", f"{code}\nsys.argv = ['sia-gen', 'recipes']\nmain()"]
    for presses in (1, 3) if ALL else (3,):
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        err = process.communicate(timeout=30)[1]
        expected = (0, "") if place == "ending" else (1, STOPPED + "\n")
        assert (process.returncode, err) == expected
        assert time.monotonic() - began < in_time()
    what = (
        "Ctrl-C, once or three times, while libraries catch it, import, wait in C, clean up or exit"
    )
    tried(what, times(1, 2), "one line, within 2 s", fixed=7)


def test_where_it_is_ignored_it_stays_so(tried: Tried) -> None:
    """Scripts start what is to run in the background that way."""
    code = f"{BEFORE}\nsia_gen.config.recipe_file.recipe_names = lambda: wait(1)\n"
    code += "sys.argv = ['sia-gen', 'recipes']\nmain()"
    command = 'trap \'\' INT; exec "$0" "$@"'
    process = subprocess.Popen(
        ["sh", "-c", command, sys.executable, "-c", code],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=30)[0], process.returncode) == ("", 0)
    tried("Ctrl-C while a run is in the background", 1, "the run goes on")


def test_it_ends_in_time_in_the_first_half_second(tmp_path: Path, tried: Tried) -> None:
    moments, tries = random.Random(0), times(2, 40)
    for _ in range(tries):
        told = tmp_path / "told.txt"
        running = Running(["compose", "--help"], tmp_path, told, launcher=FROM_NOTHING)
        running.wait_until_it_watches()
        if not running.ends_within(moments.uniform(0, 0.2)):
            running.send(signal.SIGINT)
        ended = running.end()
        if ended.code:
            check_line(ended)
    tried("Ctrl-C in the first half second", tries, "one line", fixed=2)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> CommandLine:
    """A folder with a recipe, models and a corpus."""
    settings = {"synthesis.images": 24, "synthesis.steps": 8, "realnet.max_steps": 10_000}
    recipe = small.override(settings)
    line = CommandLine(tmp_path_factory.mktemp("interrupted"), photographs, recipe)
    for seed, category in enumerate(recipe.categories):
        save_model(line.folder / "models" / category, seed, size=32)
    Running([*SYNTHESIZE, "--out", "whole"], line.folder, line.folder / "whole.txt").done()
    return line


def corpus(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_two_processes_end_with_one_line_and_go_on(line: CommandLine, tried: Tried) -> None:
    moments, tries = random.Random(0), times(1, 20)
    arguments = [*SYNTHESIZE, "--out", "two"]
    for _ in range(tries):
        both = ranks(2, arguments, line.folder, "two")
        for running in both:
            running.wait_until_it_watches()
        both[0].ends_within(moments.uniform(0, 3))
        for running in both:
            running.send(signal.SIGINT)
        first, second = (running.end() for running in both)
        if first.code or second.code:
            check_line(first)
            # PyTorch, imported before the command, logs that the first process is gone.
            ours = ("error", "warning", "Traceback")
            said = [line for line in second.text.splitlines() if line.startswith(ours)]
            assert (second.code, said) == (1, [])
    for running in ranks(2, arguments, line.folder, "two"):
        running.done()
    assert corpus(line.folder / "two") == corpus(line.folder / "whole")
    outcome = "one line; a rerun completes, same bytes"
    tried("Ctrl-C in a run of two processes", tries, outcome, fixed=1)


@pytest.mark.parametrize("there", [True, False])
def test_a_process_that_waits_for_another_ends(
    line: CommandLine, there: bool, tried: Tried
) -> None:
    out = f"waiting-{there}"
    first, second = ranks(2, [*SYNTHESIZE, "--out", out], line.folder, out)
    if there:
        # Both have met; the other stops before they meet again.
        first.wait_for(f"{out}/data/*/*/*.tar", line.folder)
        second.send(signal.SIGSTOP)
    else:
        second.process.kill()
    assert not first.ends_within(3)
    first.send(signal.SIGINT)
    check_line(first.end())
    second.process.kill()
    tried("Ctrl-C while one process waits for another", 1, "one line, within 2 s", fixed=1)


def test_processes_that_load_images_end_too(line: CommandLine, tried: Tried) -> None:
    moments, tries = random.Random(0), times(1, 20)
    options = ["--data", str(line.data), "--category", "disc", "--corpus", "whole", "--out", "fit"]
    arguments = ["fit-realnet", "--recipe", "parts.yaml", *CPU, *options]
    for _ in range(tries):
        told = line.folder / "fit.txt"
        running = Running(arguments, line.folder, told, condition=two_workers)
        process = psutil.Process(running.process.pid)
        while not (workers := process.children(recursive=True)):
            assert not running.ends_within(0.01), told.read_text()
        running.ends_within(moments.uniform(0, 3))
        for one in {*workers, *process.children(recursive=True), process}:
            if one.is_running():
                one.send_signal(signal.SIGINT)
        check_line(running.end())
        psutil.wait_procs(workers, timeout=in_time())
        assert not any(worker.is_running() for worker in workers)
    tried(
        "Ctrl-C while worker processes load images", tries, "one line, all processes end", fixed=1
    )


@pytest.mark.parametrize("launcher", list(LAUNCHERS) if ALL else [])
def test_under_a_launcher_all_end(line: CommandLine, launcher: str, tried: Tried) -> None:
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "sia_gen", *SYNTHESIZE]
    moments, tries = random.Random(0), times(1, 5)
    for number in range(tries):
        # A folder of each launcher: what is there already would be taken for its work.
        out = line.folder / f"{launcher.split()[0]}-{number}"
        with (line.folder / "told.txt").open("w") as told:
            process = subprocess.Popen(
                [*command, "--out", out.name],
                cwd=line.folder,
                # The bytes of a corpus depend on the threads that compute it.
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        while not any(out.glob("data/*/*/*.tar")):
            assert process.poll() is None, (line.folder / "told.txt").read_text()
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        began = time.monotonic()
        # As a terminal does, to all of them.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        seconds = time.monotonic() - began
        text = (line.folder / "told.txt").read_text()
        # The launcher tells of it in its own words, even if all was done already.
        assert STOPPED in text or "The corpus is in" in text, text
        assert seconds < 2 * in_time(), text
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
        Running([*SYNTHESIZE, "--out", out.name], line.folder, line.folder / "again.txt").done()
        assert corpus(out) == corpus(line.folder / "whole")
    tried(f"Ctrl-C under `{launcher}`", tries, "all processes end; a rerun completes, same bytes")
