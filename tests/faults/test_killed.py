"""Kills and interrupts at random moments of every command that writes for long."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sia_gen.recipe import Recipe
from tests.conftest import recipe_content
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import CommandLine
from tests.faults.conftest import ALL, Tried, times
from tests.hub.conftest import new_name
from tests.hub.server import Hub

SETTINGS = {
    "diffusion.max_steps": 6,
    "diffusion.checkpoint_every": 1,
    "classifier.max_steps": 6,
    "classifier.checkpoint_every": 1,
    "synthesis.images": 24,
    "synthesis.steps": 8,
    "realnet.max_steps": 6,
    "realnet.validate_every": 1,
}
CPU = ["--device", "cpu", "--precision", "fp32"]
# Of each command: its options, and which of its files have to be the same in the end.
COMMANDS = {
    "train-diffusion": (["--data", "IMAGES", "--category", "disc", *CPU], "disc/*/*.safetensors"),
    "train-classifier": (["--data", "IMAGES", *CPU], "model/*.safetensors"),
    "synthesize": (["--model", "models", *CPU], "**/*"),
    "compose": (["--data", "IMAGES", "--corpus", "corpus"], "**/*"),
    "fit-realnet": (
        ["--data", "IMAGES", "--corpus", "corpus", "--category", "disc", *CPU],
        "disc/*.safetensors",
    ),
    "push-to-hub": ([], ""),
}
STOPPED = "error: stopped. Run the same command again to go on."
# Imports take the first part of a run of seconds; what happens then is tried seldom enough.
EARLIEST = 0.3


class Work:
    """A command to be broken off, time and again, in a folder of its own."""

    def __init__(self, name: str, line: CommandLine, hub: Hub) -> None:
        self.name, self.line, self.hub = name, line, hub
        self.options, self.kept = COMMANDS[name]
        self.anew()

    def anew(self) -> None:
        """From now on there is nothing to resume."""
        self.repository = new_name()
        self.out = self.repository.partition("/")[2]

    def begin(self) -> subprocess.Popen[str]:
        arguments = ["push-to-hub", "corpus", self.repository]
        if self.name != "push-to-hub":
            options = [{"IMAGES": str(self.line.data)}.get(one, one) for one in self.options]
            arguments = [self.name, "--recipe", "parts.yaml", *options, "--out", self.out]
        return self.line.start(*self.line.python, "-m", "sia_gen", *arguments)

    def result(self) -> dict[str, bytes]:
        """What has been made, by path."""
        if self.name == "push-to-hub":
            files = self.hub.read("dataset", self.repository)
            own = self.repository.encode()
            return {path: content.replace(own, b"NAME") for path, content in files.items()}
        folder = self.line.folder / self.out
        found = {path.relative_to(folder).as_posix(): path for path in folder.glob(self.kept)}
        return {name: path.read_bytes() for name, path in found.items() if path.is_file()}

    def finish(self) -> dict[str, bytes]:
        process = self.begin()
        told = process.communicate(timeout=240)[0]
        assert process.returncode == 0, told
        return self.result()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> CommandLine:
    """A folder with a recipe, models and a corpus."""
    recipe = Recipe.parse(recipe_content(), where="conftest").override(SETTINGS)
    line = CommandLine(tmp_path_factory.mktemp("killed"), photographs, recipe)
    for seed, category in enumerate(recipe.categories):
        save_model(line.folder / "models" / category, seed, size=32)
    line.run("synthesize", "--model", "models", "--out", "corpus")
    return line


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_broken_off_at_random_moments_it_ends_as_if_it_had_not_been(
    place: CommandLine, hub: Hub, name: str, tried: Tried
) -> None:
    work, moments = Work(name, place, hub), random.Random(name)
    began = time.monotonic()
    whole = work.finish()
    duration = time.monotonic() - began
    assert whole
    work.anew()
    breaks = {signal.SIGKILL: 0, signal.SIGTERM: 0, signal.SIGINT: 0}
    slowest = 0.0
    while min(breaks.values()) < times(1, 20):
        kind = min(breaks, key=lambda one: breaks[one])
        process = work.begin()
        try:
            process.communicate(timeout=moments.uniform(EARLIEST, 1) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            began = time.monotonic()
            told = process.communicate()[0]
            if kind == signal.SIGINT:
                slowest = max(slowest, time.monotonic() - began)
                if process.returncode != 0:
                    assert (process.returncode, told.splitlines()[-1]) == (1, STOPPED), told
                    assert "Traceback" not in told
            else:
                assert process.returncode == -kind
            breaks[kind] += 1
        if process.returncode == 0:
            assert work.result() == whole
            work.anew()
    assert work.finish() == whole
    if ALL:
        assert slowest < 2
    kills = breaks[signal.SIGKILL] + breaks[signal.SIGTERM]
    tried(f"SIGKILL and SIGTERM of `{name}`", kills, "a rerun completes, same bytes")
    told = f"one line, after {slowest:.1f} s at most; a rerun completes, same bytes"
    tried(f"Ctrl-C of `{name}`", breaks[signal.SIGINT], told)
