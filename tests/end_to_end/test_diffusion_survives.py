"""Training of the diffusion model: killed, resumed, in one and in two processes."""

from __future__ import annotations

import json

import pytest
import yaml
from safetensors.torch import load_file

from tests.end_to_end.conftest import TWO_PROCESSES, WEIGHTS, CommandLine, kill_all


def train(line: CommandLine, out: str, launcher: list[str] | None = None) -> None:
    options = ["--data", str(line.data), "--category", "disc", "--out", out]
    line.run("train-diffusion", *options, launcher=launcher)


def change(line: CommandLine, **settings: object) -> None:
    path = line.folder / "parts.yaml"
    content = yaml.safe_load(path.read_text())
    content["diffusion"] |= settings
    path.write_text(yaml.safe_dump(content))


def losses(line: CommandLine, out: str) -> list[float]:
    lines = (line.folder / out / "logs/disc/train.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize(
    ("launcher", "kills"),
    [(None, (2, 5)), (TWO_PROCESSES, (3,))],
    ids=["one process", "two processes"],
)
def test_killed_and_resumed_training_ends_with_the_same_weights(
    line: CommandLine, launcher: list[str] | None, kills: tuple[int, ...]
) -> None:
    change(line, max_steps=8, checkpoint_every=1, learning_rate=1e-3)
    train(line, "unbroken", launcher)
    command = line.arguments("train-diffusion", "--data", str(line.data), "--category", "disc")
    for step in kills:
        process = line.start(*(launcher or line.python), *command, "--out", "broken")
        line.wait_for(f"broken/checkpoints/disc/step-{step:08d}", process)
        kill_all(process)
    train(line, "broken", launcher)
    weights = [load_file(line.folder / out / "disc" / WEIGHTS) for out in ("unbroken", "broken")]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_two_processes_reach_the_loss_of_one_with_the_same_batch(line: CommandLine) -> None:
    settings = {"max_steps": 20, "learning_rate": 1e-3, "preview_every": 100}
    change(line, batch_size=4, **settings)
    train(line, "one")
    change(line, batch_size=2, **settings)
    train(line, "two", TWO_PROCESSES)
    expected = losses(line, "one")
    assert len(expected) == 2
    # The same samples in another order of summation: equal up to rounding, step after step.
    assert losses(line, "two") == pytest.approx(expected, rel=1e-2)
