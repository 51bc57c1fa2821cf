"""A corpus is the same bytes, whoever makes it in whatever parts, and however often it is killed.

`SIA_GEN_KILLS=20 pytest tests/end_to_end/test_corpus_survives.py` kills as often as that.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import recipe_content
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import ROOT, kill_all

KILLS = int(os.environ.get("SIA_GEN_KILLS", "1"))
SHARDS = 12
ONE = [sys.executable]
SYNTHESIS = {"images": 30, "strength": "0:0.5", "steps": 10, "batch_size": 2, "shard_size": 5}


def launcher(processes: int) -> list[str]:
    if processes == 1:
        return ONE
    # Any free port: other tests may use it too.
    elastic = ["-m", "torch.distributed.run", "--standalone"]
    return [sys.executable, *elastic, "--nproc-per-node", str(processes)]


class Parts:
    """Models of two categories, and a recipe, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = recipe_content() | {"synthesis": SYNTHESIS}
        (folder / "parts.yaml").write_text(yaml.safe_dump(content))
        for seed, category in enumerate(("disc", "plate")):
            save_model(folder / "models" / category, seed)

    def start(self, out: str, *options: str, processes: int = 1) -> subprocess.Popen[str]:
        common = ["--recipe", "parts.yaml", "--model", "models", "--device", "cpu", "--out", out]
        command = [*launcher(processes), "-m", "sia_gen", "synthesize", *common, *options]
        return subprocess.Popen(
            [*command, "--precision", "fp32"],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, out: str, *options: str, processes: int = 1) -> dict[str, bytes]:
        process = self.start(out, *options, processes=processes)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        return self.files(out)

    def files(self, out: str) -> dict[str, bytes]:
        folder = self.folder / out
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def shards(self, out: str) -> list[Path]:
        return sorted((self.folder / out).glob("data/*/*/train-*.tar"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(parts: Parts) -> dict[str, bytes]:
    """The files of an uninterrupted corpus."""
    files = parts.run("whole")
    assert len(parts.shards("whole")) == SHARDS
    return files


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must not outlive the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            kill_all(process)


def test_three_processes_make_the_same_bytes(parts: Parts, whole: dict[str, bytes]) -> None:
    assert parts.run("three", processes=3) == whole


def test_parts_of_a_job_array_make_the_same_bytes(parts: Parts, whole: dict[str, bytes]) -> None:
    parts.run("array", "--shards", "5:12")
    assert len(parts.shards("array")) == 7
    assert parts.run("array", "--shards", "0:5") == whole


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_moments_the_corpus_ends_the_same(
    parts: Parts, whole: dict[str, bytes], processes: int, running: list[subprocess.Popen[str]]
) -> None:
    out = f"killed-{processes}"
    moments = random.Random(processes)
    for _ in range(KILLS):
        before = len(parts.shards(out))
        if before == SHARDS:
            for shard in parts.shards(out)[:-1]:
                shard.unlink()
            before = 1
        process = parts.start(out, processes=processes)
        running.append(process)
        # At a moment between the first shard of this run and the last.
        goal = moments.randrange(before, SHARDS)
        while len(parts.shards(out)) < goal and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        kill_all(process)
    assert parts.run(out, processes=processes) == whole
