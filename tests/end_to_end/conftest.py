"""Runs sia-gen as a user does: each command is a process of its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from tests.processes import FROM_NOTHING, Running, ranks

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
# Any free port: other tests may use it too.
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# How processes are started: as forks, or as users do it, with all imports, which is far slower.
TWO: dict[str, Any] = {"processes": 2}
FRESH: dict[str, Any] = {"launcher": FROM_NOTHING}
TORCHRUN: dict[str, Any] = {"launcher": LAUNCHER}
# Marks of what users start, where a fork is tested too.
AS_USERS = [pytest.mark.slow, pytest.mark.from_nothing]


class CommandLine:
    """Runs sia-gen in a folder, on a recipe that lies in it."""

    def __init__(self, folder: Path, photographs: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.data = photographs
        self.numbers = itertools.count()
        self.started: list[Running] = []
        (folder / "parts.yaml").write_text(recipe.to_yaml())

    def start(
        self, *arguments: str, processes: int = 1, launcher: Sequence[str] = ()
    ) -> list[Running]:
        """Starts a command, in one process or more."""
        told = f"told-{next(self.numbers)}"
        running = (
            ranks(processes, arguments, self.folder, told)
            if processes > 1
            else [Running(arguments, self.folder, self.folder / f"{told}.txt", launcher=launcher)]
        )
        self.started += running
        return running

    def begin(self, command: str, *options: str, **started: Any) -> list[Running]:
        """Starts a command on the recipe."""
        recipe = ["--recipe", "parts.yaml", "--precision", "fp32", "--device", "cpu"]
        return self.start(command, *recipe, *options, **started)

    def run(self, command: str, *options: str, **started: Any) -> str:
        """Runs a command on the recipe to its good end; returns what it printed."""
        return "".join(one.done().text for one in self.begin(command, *options, **started))

    def kill(self, running: list[Running]) -> None:
        """Kills the processes of a command."""
        for one in running:
            one.kill()


@pytest.fixture
def line(tmp_path: Path, photographs: Path, recipe: Recipe) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path, photographs, recipe)
    yield line
    # Processes must not outlive the test.
    line.kill(line.started)
