"""The commands a user types, one after another, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sia_gen.files import sha256
from sia_gen.recipe import Recipe

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[2]
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


class CommandLine:
    """Runs sia-gen in a folder, on a recipe that lies in it."""

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
        process = self.start(*(launcher or [sys.executable]), *self.arguments(command, *options))
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        return output


@pytest.fixture
def line(tmp_path: Path, photographs: Path, recipe: Recipe) -> CommandLine:
    return CommandLine(tmp_path, photographs, recipe)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def test_train_kill_resume_synthesize_verify_fit_evaluate(line: CommandLine) -> None:
    data = ["--data", str(line.data)]
    line.run("train-diffusion", *data, "--category", "disc", "--out", "unbroken")

    train = line.arguments("train-diffusion", *data, "--category", "disc")
    process = line.start(sys.executable, *train)
    wait_for(line.folder / "runs/parts/diffusion/checkpoints/disc/step-00000002", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (line.folder / "runs/parts/diffusion/disc").exists()
    line.run("train-diffusion", *data, "--category", "disc")
    resumed = line.folder / "runs/parts/diffusion/disc"
    assert sha256(resumed / WEIGHTS) == sha256(line.folder / "unbroken/disc" / WEIGHTS)

    line.run("synthesize", "--category", "disc", "--strength", "0.1:0.2")
    options = ["--category", "disc", "--strength", "0.1:0.2", "--out", "two"]
    output = line.run("synthesize", *options, launcher=TWO_PROCESSES)
    assert "synthesizing: 0/3" in output, "the first process does its share alone"
    one, two = (
        [shard["sha256"] for shard in manifest["shards"]]
        for manifest in (
            json.loads((line.folder / corpus / "manifest.json").read_text())
            for corpus in ("runs/parts/corpus", "two")
        )
    )
    assert one == two

    process = line.start(sys.executable, "-m", "sia_gen", "verify", "runs/parts/corpus")
    assert "5 samples in 2 shards" in process.communicate()[0]

    line.run("fit-realnet", *data, "--category", "disc")
    output = line.run("evaluate", *data, "--category", "disc")
    metrics = json.loads((line.folder / "runs/parts/evaluation/metrics.json").read_text())
    assert set(metrics["categories"]) == {"disc"}
    assert 0 <= metrics["mean"]["image_auroc"] <= 1
    assert "| disc |" in output


def test_saved_recipe_repeats_the_run(line: CommandLine) -> None:
    line.run("train-diffusion", "--data", str(line.data), "--category", "plate", "--max-steps", "3")
    saved = yaml.safe_load((line.folder / "runs/parts/diffusion/plate/recipe.yaml").read_text())
    assert saved["diffusion"]["max_steps"] == 3
    (line.folder / "parts.yaml").write_text(yaml.safe_dump(saved))
    line.run("train-diffusion", "--data", str(line.data), "--category", "plate", "--out", "again")
    weights = [
        sha256(line.folder / run / "plate" / WEIGHTS) for run in ("runs/parts/diffusion", "again")
    ]
    assert weights[0] == weights[1]
