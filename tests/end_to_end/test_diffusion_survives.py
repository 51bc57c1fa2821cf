"""Training of the diffusion model: killed, resumed, in one and in two processes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.end_to_end.conftest import AS_USERS, FRESH, TORCHRUN, TWO, WEIGHTS, CommandLine


def train(line: CommandLine, out: str, **started: Any) -> None:
    options = ["--data", str(line.data), "--category", "disc", "--out", out]
    line.run("train-diffusion", *options, **started)


def change(line: CommandLine, **settings: object) -> None:
    path = line.folder / "parts.yaml"
    content = yaml.safe_load(path.read_text())
    content["diffusion"] |= {"image_size": 16, **settings}
    path.write_text(yaml.safe_dump(content))


def losses(line: CommandLine, out: str) -> list[float]:
    lines = (line.folder / out / "logs/disc/train.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize(
    ("started", "kills"),
    [
        pytest.param({}, (2, 5), id="one process"),
        pytest.param(TWO, (3,), id="two processes", marks=pytest.mark.slow),
        pytest.param(FRESH, (2, 5), id="one from nothing", marks=AS_USERS),
        pytest.param(TORCHRUN, (3,), id="two by torchrun", marks=AS_USERS),
    ],
)
def test_killed_and_resumed_training_ends_with_the_same_weights(
    line: CommandLine, started: dict[str, Any], kills: tuple[int, ...]
) -> None:
    change(line, max_steps=6, checkpoint_every=1, learning_rate=1e-3)
    train(line, "unbroken", **started)
    options = ["--data", str(line.data), "--category", "disc", "--out", "broken"]
    for step in kills:
        running = line.begin("train-diffusion", *options, **started)
        running[0].wait_for(f"broken/checkpoints/disc/step-{step:08d}", line.folder)
        line.kill(running)
    train(line, "broken", **started)
    weights = [load_file(line.folder / out / "disc" / WEIGHTS) for out in ("unbroken", "broken")]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


@pytest.mark.slow
def test_two_processes_reach_the_loss_of_one_with_the_same_batch(line: CommandLine) -> None:
    settings = {
        "max_steps": 20,
        "learning_rate": 1e-3,
        "preview_every": 100,
        "checkpoint_every": 100,
    }
    change(line, batch_size=4, **settings)
    train(line, "one")
    change(line, batch_size=2, **settings)
    train(line, "two", **TWO)
    expected = losses(line, "one")
    assert len(expected) == 2
    # The same samples in another order of summation: equal up to rounding, step after step.
    assert losses(line, "two") == pytest.approx(expected, rel=1e-2)
