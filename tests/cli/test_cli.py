"""The command line: help, exit codes, and usage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sia_gen import __version__
from sia_gen.config.recipe import Recipe
from sia_gen.config.recipe_file import recipe_names

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

COMMANDS = [
    "demo",
    "recipes",
    "train-diffusion",
    "train-classifier",
    "import-adm",
    "calibrate",
    "synthesize",
    "verify",
    "inspect",
    "compose",
    "fit-realnet",
    "import-realnet",
    "evaluate",
    "predict",
    "recalibrate",
    "export",
    "serve",
    "push-to-hub",
]
HELP = """
import atexit, runpy, sys
slow = {"torch", "fsspec", "numpy", "huggingface_hub"}
atexit.register(lambda: print("imported:", sorted(slow & sys.modules.keys())))
sys.argv[1:] = ["--help"]
runpy.run_module("sia_gen", run_name="__main__")
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"sia-gen {command}" in result.out.split("Example:")[1]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 0
    assert all(f" {command} " in result.out for command in COMMANDS)


def test_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, f"sia-gen {__version__}\n", "")


def test_recipes_are_listed(run: Run) -> None:
    lines = run("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()


def test_printed_recipe_is_a_recipe(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(run("recipes", "elpv").out)
    assert Recipe.load("mine.yaml") == Recipe.load("elpv")


def test_help_does_not_wait_for_large_libraries() -> None:
    process = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("imported: []\n")


def test_error_of_a_real_process_is_one_line_on_stderr(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sia_gen", "verify", str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"error: {tmp_path} is not a corpus")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["syntesize"], "Did you mean 'synthesize'? See 'sia-gen --help'."),
        (["synthesize"], "Missing option '--recipe'"),
        (["verify"], "Missing argument"),
        (["recipes", "elvp"], "there is no recipe 'elvp' (did you mean 'elpv'?)"),
        (["train-diffusion", "--recipe", "."], "there is no recipe '.'"),
        (["evaluate", "--recipe", "elpv", "--categry", "mono"], "No such option"),
        (["run", "--false-alarm-rate", "0.1"], "rate. See 'sia-gen run --help'."),
        (["run", "photos"], "(photos). Give the folder of images with --data. See 'sia-gen run"),
        (
            ["train-diffusion", "--recipe", "elpv", "--max-steps", "0"],
            "'diffusion.max_steps': input",
        ),
        (["train-diffusion", "--recipe", "elpv", "--max-steps", "few"], "'--max-steps'"),
        (["train-diffusion", "--recipe", "elpv", "--precision", "fp8"], "'--precision'"),
        (["train-diffusion", "--recipe", "elpv", "--device", "tpu"], "'--device'"),
        (["synthesize", "--recipe", "elpv", "--images", "0"], "'synthesis.images': input"),
        (["synthesize", "--recipe", "elpv", "--steps", "1001"], "'synthesis.steps': input"),
        (["synthesize", "--recipe", "elpv", "--seed", "-1"], "'seed': input"),
        (["synthesize", "--recipe", "elpv", "--seed", "4294967296"], "'seed': input should be"),
    ],
)
def test_wrong_usage_is_one_line(refuse: Refuse, arguments: list[str], message: str) -> None:
    assert message in refuse(*arguments)


def test_debug_mode_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIA_GEN_DEBUG", "1")
    result = run("recipes", "nowhere")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: there is no recipe 'nowhere'")


def do(monkeypatch: pytest.MonkeyPatch, command: Callable[[], object]) -> None:
    """Replaces the body of `sia-gen recipes`."""

    def names() -> list[str]:
        command()
        return []

    monkeypatch.setattr("sia_gen.config.recipe_file.recipe_names", names)


def test_memory_that_runs_out_anywhere_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(monkeypatch, lambda: np.empty(2**60, np.uint8))
    result = run("recipes")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: out of memory (Unable to allocate 1.00 EiB")
    assert "Stop other programs that need memory" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.filterwarnings("always")
def test_warning_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    do(monkeypatch, lambda: warnings.warn("pixels are\nfew", stacklevel=1))
    assert run("recipes") == (0, "", "warning: pixels are few\n")


@pytest.mark.filterwarnings("always")
def test_known_noise_of_libraries_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "OMP_NUM_THREADS/MKL_NUM_THREADS unset, we set it at 2 to improve oob performance."
    warn = partial(warnings.warn_explicit, noise, UserWarning, "state.py", 1)
    do(monkeypatch, partial(warn, module="accelerate.state"))
    assert run("recipes") == (0, "", "")
    do(monkeypatch, partial(warn, module="elsewhere"))
    assert run("recipes").err == f"warning: {noise}\n"


def fail_in_a_thread(error: Exception) -> None:
    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail, name="encoder")
    thread.start()
    thread.join()


def test_error_in_a_thread_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    do(monkeypatch, partial(fail_in_a_thread, ValueError("no\nimage")))
    line = "warning: the thread 'encoder' failed (ValueError: no image).\n"
    assert run("recipes") == (0, "", line)


def test_error_that_a_thread_keeps_for_the_main_thread_is_reported_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write() -> None:
        writer = EventFileWriter(str(tmp_path))
        monkeypatch.setattr(writer._async_writer._writer, "write", refuse_to_write)
        writer.add_event(Event())
        writer._async_writer._worker.join()
        writer.add_event(Event())

    def refuse_to_write(_: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events")

    do(monkeypatch, write)
    result = run("recipes")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: cannot write events: No space left on device.")
    assert result.err.count("\n") == 1
