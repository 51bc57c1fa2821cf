"""The command line: help, exit codes, and usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sia_gen import __version__
from sia_gen.recipe import Recipe
from sia_gen.recipe_file import recipe_names

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
    "evaluate",
    "predict",
    "export",
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
        (["syntesize"], "No such command 'syntesize'"),
        (["synthesize"], "Missing option '--recipe'"),
        (["verify"], "Missing argument"),
        (["recipes", "elvp"], "there is no recipe 'elvp' (did you mean 'elpv'?)"),
        (["train-diffusion", "--recipe", "."], "there is no recipe '.'"),
        (["evaluate", "--recipe", "elpv", "--categry", "mono"], "No such option"),
        (["train-diffusion", "--recipe", "elpv", "--max-steps", "0"], "'--max-steps'"),
        (["train-diffusion", "--recipe", "elpv", "--max-steps", "few"], "'--max-steps'"),
        (["train-diffusion", "--recipe", "elpv", "--precision", "fp8"], "'--precision'"),
        (["train-diffusion", "--recipe", "elpv", "--device", "tpu"], "'--device'"),
        (["synthesize", "--recipe", "elpv", "--images", "0"], "'--images'"),
        (["synthesize", "--recipe", "elpv", "--steps", "1001"], "'--steps'"),
        (["synthesize", "--recipe", "elpv", "--seed", "-1"], "'--seed'"),
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
