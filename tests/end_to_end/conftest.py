"""Runs sia-gen as a user does: each command is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from sia_gen.recipe import Recipe

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[2]
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


class CommandLine:
    """Runs sia-gen in a folder, on a recipe that lies in it."""

    python: ClassVar = [sys.executable]

    def __init__(self, folder: Path, photographs: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.data = photographs
        (folder / "parts.yaml").write_text(recipe.to_yaml())

    def arguments(self, command: str, *options: str) -> list[str]:
        recipe = ["--recipe", "parts.yaml", "--precision", "fp32", "--device", "cpu"]
        return ["-m", "sia_gen", command, *recipe, *options]

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, command: str, *options: str, launcher: list[str] | None = None) -> str:
        process = self.start(*(launcher or self.python), *self.arguments(command, *options))
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    def wait_for(self, path: str, process: subprocess.Popen[str]) -> None:
        while not (self.folder / path).exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)


@pytest.fixture
def line(tmp_path: Path, photographs: Path, recipe: Recipe) -> CommandLine:
    return CommandLine(tmp_path, photographs, recipe)


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kills a process and what it launched, without a chance to clean up."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.communicate()
