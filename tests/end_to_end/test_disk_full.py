"""A disk that runs full while a corpus is made: one line, and with some room it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import recipe_content
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import ROOT

# A file system of its own, for as long as the script runs; nobody needs to be root for it.
ALONE = ["unshare", "--user", "--map-root-user", "--mount"]
MOUNT = "mount -t tmpfs -o size=512k tmpfs disk"
SCRIPT = f"""
set -u
{MOUNT} || exit 99
head -c 430000 /dev/zero > disk/ballast
"$@" --out disk/corpus 2> first.err; echo "first $?"
find disk -name '.*.tmp'
rm disk/ballast
"$@" --out disk/corpus >/dev/null 2> second.err; echo "second $?"
cp -r disk/corpus kept
"""


def can_mount(folder: Path) -> bool:
    (folder / "disk").mkdir()
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*ALONE, "sh", "-c", MOUNT], cwd=folder, capture_output=True).returncode == 0
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_full_disk_is_one_line_and_a_rerun_completes_the_corpus(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this system does not let a process mount a file system of its own")
    synthesis = {"images": 30, "steps": 2, "batch_size": 5, "shard_size": 5}
    content = recipe_content() | {"synthesis": synthesis, "categories": ["disc"]}
    (tmp_path / "parts.yaml").write_text(yaml.safe_dump(content))
    save_model(tmp_path / "models/disc", 0)
    command = [sys.executable, "-m", "sia_gen", "synthesize", "--recipe", "parts.yaml"]
    command += ["--model", "models", "--device", "cpu", "--precision", "fp32"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = subprocess.run(
        [*ALONE, "bash", "-c", SCRIPT, "bash", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert script.stdout.splitlines()[1:] == ["second 0"], script
    assert script.stdout.startswith("first 2\n"), (tmp_path / "first.err").read_text()
    lines = (tmp_path / "first.err").read_text().splitlines()
    (error,) = [line for line in lines if not line.startswith("synthesizing")]
    assert error.startswith("error: cannot write ")
    assert "No space left on device. Free some room, then run the same command again" in error
    subprocess.run([*command, "--out", "whole"], cwd=tmp_path, env=environment, check=True)
    assert files(tmp_path / "kept") == files(tmp_path / "whole")
