"""A corpus is the same bytes, whoever makes it in whatever parts, and however often it is killed.

`SIA_GEN_KILLS=20 pytest tests/end_to_end/test_corpus_survives.py` kills as often as that.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from tests.conftest import recipe_content
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import FRESH, TORCHRUN, TWO, CommandLine
from tests.processes import Running

KILLS = int(os.environ.get("SIA_GEN_KILLS", "1"))
SHARDS = 12
SYNTHESIS = {"images": 30, "strength": "0:0.5", "steps": 10, "batch_size": 2, "shard_size": 5}


class Parts(CommandLine):
    """Models of two categories, and a recipe, in a folder."""

    def __init__(self, folder: Path) -> None:
        content = recipe_content() | {"synthesis": SYNTHESIS}
        super().__init__(folder, folder, Recipe.parse(content, where="here"))
        for seed, category in enumerate(("disc", "plate")):
            save_model(folder / "models" / category, seed)

    def make(self, out: str, *options: str, **started: Any) -> list[Running]:
        return self.begin("synthesize", "--model", "models", "--out", out, *options, **started)

    def made(self, out: str, *options: str, **started: Any) -> dict[str, bytes]:
        """The files of a corpus, once it is complete."""
        for running in self.make(out, *options, **started):
            running.done()
        folder = self.folder / out
        # What was locked in parts was worked on in parts.
        paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def shards(self, out: str) -> list[Path]:
        return sorted((self.folder / out).glob("data/*/*/train-*.tar"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(tmp_path_factory.mktemp("parts"))
    yield parts
    parts.kill(parts.started)


@pytest.fixture(scope="module")
def whole(parts: Parts) -> dict[str, bytes]:
    """The files of an uninterrupted corpus."""
    files = parts.made("whole")
    assert len(parts.shards("whole")) == SHARDS
    return files


@pytest.mark.slow
def test_three_processes_make_the_same_bytes(parts: Parts, whole: dict[str, bytes]) -> None:
    assert parts.made("three", processes=3) == whole


@pytest.mark.slow
def test_parts_of_a_job_array_make_the_same_bytes(parts: Parts, whole: dict[str, bytes]) -> None:
    parts.made("array", "--shards", "5:12")
    assert len(parts.shards("array")) == 7
    assert parts.made("array", "--shards", "0:5") == whole


@pytest.mark.parametrize(
    "started",
    [
        pytest.param({}, id="one process", marks=pytest.mark.slow),
        pytest.param(TWO, id="two processes"),
        pytest.param(FRESH, id="one from nothing", marks=pytest.mark.slow),
        pytest.param(TORCHRUN, id="two by torchrun", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_the_corpus_ends_the_same(
    parts: Parts,
    whole: dict[str, bytes],
    started: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    out = request.node.callspec.id.replace(" ", "-")
    moments = random.Random(out)
    for _ in range(KILLS):
        before = len(parts.shards(out))
        if before == SHARDS:
            for shard in parts.shards(out)[:-1]:
                shard.unlink()
            before = 1
        running = parts.make(out, **started)
        # At a moment between the first shard of this run and the last.
        goal = moments.randrange(before, SHARDS)
        while len(parts.shards(out)) < goal and not running[0].ends_within(0.005):
            pass
        time.sleep(moments.uniform(0, 0.3))
        parts.kill(running)
    assert parts.made(out, **started) == whole
