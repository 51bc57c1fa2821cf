"""Kills and interrupts at random moments of every command that writes for long."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from tests.conftest import recipe_content
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import CommandLine
from tests.faults.breaking import check_line
from tests.faults.conftest import ALL, Tried, times
from tests.hub.conftest import new_name
from tests.hub.server import Hub
from tests.processes import FROM_NOTHING, Running, whole_previews

SETTINGS = {
    "diffusion.init": "models/disc",
    "diffusion.max_steps": 6,
    "diffusion.checkpoint_every": 1,
    "diffusion.preview_every": 2,
    "classifier.batch_size": 2,
    "classifier.max_steps": 6,
    "classifier.checkpoint_every": 1,
    "synthesis.images": times(12, 24),
    "synthesis.steps": times(4, 8),
    "realnet.max_steps": 6,
    "realnet.validate_every": 1,
}
CPU = ["--device", "cpu", "--precision", "fp32"]
COMMANDS = {
    "train-diffusion": ["--data", "IMAGES", "--category", "disc", *CPU],
    "train-classifier": ["--data", "IMAGES", *CPU],
    "synthesize": ["--model", "models", *CPU],
    "compose": ["--data", "IMAGES", "--corpus", "corpus"],
    "fit-realnet": ["--data", "IMAGES", "--corpus", "corpus", "--category", "disc", *CPU],
    "push-to-hub": [],
}
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = times(1, 20)
# Those that no other test kills.
QUICK = [
    ("fit-realnet", [signal.SIGKILL]),
    ("train-classifier", [signal.SIGTERM]),
    ("compose", [signal.SIGINT]),
]
# Most of a fresh process's life are imports.
FRESH = 4 if ALL else 0
# It knows no networks of the tests.
KNOWN = {"classifier.preset": "tiny"}


class Work:
    """A command to be broken off, time and again, in a folder of its own."""

    def __init__(self, name: str, line: CommandLine, hub: Hub) -> None:
        self.name, self.line, self.hub = name, line, hub
        self.anew()

    def anew(self) -> None:
        """From now on there is nothing to resume."""
        self.repository = new_name()
        self.out = self.repository.partition("/")[2]

    def begin(self, *, fresh: bool = False) -> Running:
        arguments = ["push-to-hub", "corpus", self.repository]
        if self.name != "push-to-hub":
            options = [{"IMAGES": str(self.line.data)}.get(one, one) for one in COMMANDS[self.name]]
            arguments = [self.name, "--recipe", "parts.yaml", *options, "--out", self.out]
        folder = self.line.folder
        # What a fork makes is compared with what a process makes that starts from nothing.
        options = {"launcher": FROM_NOTHING} if fresh else {"condition": whole_previews}
        return Running(arguments, folder, folder / f"{self.out}.txt", **options)

    def finish(self, *, fresh: bool = False) -> dict[str, object]:
        told = self.begin(fresh=fresh).end()
        assert told.code == 0, told.text
        return self.result()

    def result(self) -> dict[str, object]:
        """All that has been made, by path; of logs the steps."""
        if self.name == "push-to-hub":
            files = self.hub.read("dataset", self.repository)
            own = self.repository.encode()
            return {path: content.replace(own, b"NAME") for path, content in files.items()}
        folder = self.line.folder / self.out
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
        return {name: content(path) for name, path in found.items() if "tfevents" not in name}


def content(path: Path) -> object:
    """What of a file has to be the same in the end."""
    if path.suffix == ".jsonl":
        return [json.loads(line)["step"] for line in path.read_text().splitlines()]
    return path.read_bytes() if path.is_file() else None


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe
) -> CommandLine:
    """A folder with a recipe, models and a corpus."""
    known = Recipe.parse(recipe_content(), where="conftest").override(KNOWN) if FRESH else small
    recipe = known.override(SETTINGS)
    line = CommandLine(tmp_path_factory.mktemp("killed"), photographs, recipe)
    for seed, category in enumerate(recipe.categories):
        save_model(line.folder / "models" / category, seed, size=32)
    arguments = ["synthesize", "--recipe", "parts.yaml", *COMMANDS["synthesize"], "--out", "corpus"]
    told = Running(arguments, line.folder, line.folder / "corpus.txt").end()
    assert told.code == 0, told.text
    return line


@pytest.mark.parametrize(("name", "kinds"), [(name, KINDS) for name in COMMANDS] if ALL else QUICK)
def test_broken_off_at_random_moments_it_ends_as_if_it_had_not_been(
    place: CommandLine, hub: Hub, name: str, kinds: Sequence[signal.Signals], tried: Tried
) -> None:
    work, moments = Work(name, place, hub), random.Random(name)
    durations: dict[bool, float] = {}
    for fresh in {False, FRESH > 0}:
        work.anew()
        began = time.monotonic()
        whole = work.finish(fresh=fresh)
        durations[fresh] = time.monotonic() - began
    work.anew()
    breaks = [(kind, number < FRESH) for number in range(TIMES) for kind in kinds]
    moments.shuffle(breaks)
    slowest = 0.0
    while breaks:
        kind, fresh = breaks[-1]
        running = work.begin(fresh=fresh)
        running.wait_until_it_watches()
        if not running.ends_within(moments.random() * durations[fresh]):
            running.send(kind)
            breaks.pop()
        told = running.end()
        if told.code == 0:
            assert work.result() == whole
            work.anew()
        elif kind == signal.SIGINT:
            check_line(told)
            slowest = max(slowest, told.seconds)
        else:
            assert told.code == -kind, told.text
    assert work.finish() == whole
    killed = [kind for kind in kinds if kind != signal.SIGINT]
    if killed:
        what = f"SIGKILL and SIGTERM of `{name}`"
        fixed = 1 if name == "train-classifier" else 0
        tried(what, TIMES * len(killed), "a rerun completes, same bytes", fixed)
    if signal.SIGINT in kinds:
        told_of = f"one line, within {slowest:.1f} s; a rerun completes, same bytes"
        tried(f"Ctrl-C of `{name}`", TIMES, told_of)
