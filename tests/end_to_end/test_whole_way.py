"""The commands a user types, one after another, as processes of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sia_gen.io.files import sha256
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import AS_USERS, FRESH, TORCHRUN, TWO, WEIGHTS, CommandLine

Started = dict[str, Any]


@pytest.mark.parametrize(
    ("alone", "together"),
    [
        pytest.param({}, TWO, id="forks"),
        pytest.param(FRESH, TORCHRUN, id="from nothing", marks=AS_USERS),
    ],
)
def test_train_kill_resume_synthesize_verify_fit_evaluate(
    line: CommandLine, alone: Started, together: Started
) -> None:
    data = ["--data", str(line.data)]
    line.run("train-diffusion", *data, "--category", "disc", "--out", "unbroken", **alone)

    running = line.begin("train-diffusion", *data, "--category", "disc", **alone)
    running[0].wait_for("runs/parts/diffusion/checkpoints/disc/step-00000002", line.folder)
    line.kill(running)
    assert not (line.folder / "runs/parts/diffusion/disc").exists()
    line.run("train-diffusion", *data, "--category", "disc", **alone)
    resumed = line.folder / "runs/parts/diffusion/disc"
    assert sha256(resumed / WEIGHTS) == sha256(line.folder / "unbroken/disc" / WEIGHTS)

    options = ["--category", "disc", "--strength", "0.1:0.2"]
    line.run("synthesize", *options, **alone)
    output = line.run("synthesize", *options, "--out", "two", **together)
    assert "synthesizing: 0/3" in output, "the first process does its share alone"
    one, two = (
        [shard["sha256"] for shard in manifest["shards"]]
        for manifest in (
            json.loads((line.folder / corpus / "manifest.json").read_text())
            for corpus in ("runs/parts/corpus", "two")
        )
    )
    assert one == two

    (verified,) = line.start("verify", "runs/parts/corpus", **alone)
    assert "5 samples in 2 shards" in verified.done().text

    line.run("fit-realnet", *data, "--category", "disc", **alone)
    line.run("fit-realnet", *data, "--category", "disc", "--out", "fit-by-two", **together)
    fits = [
        load_file(line.folder / folder / "disc/model.safetensors")
        for folder in ("runs/parts/realnet", "fit-by-two")
    ]
    for layer in range(2):
        losses, indices = f"afs.losses_{layer}", f"afs.indices_{layer}"
        assert torch.allclose(fits[0][losses], fits[1][losses], rtol=1e-5)
        assert torch.equal(fits[0][indices], fits[1][indices])
    output = line.run("evaluate", *data, "--category", "disc", **alone)
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


@pytest.mark.from_nothing
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(FRESH["launcher"], id="python -m sia_gen"),
        pytest.param(TORCHRUN["launcher"], id="torchrun", marks=pytest.mark.slow),
    ],
)
def test_command_starts_from_nothing(line: CommandLine, launcher: list[str]) -> None:
    """What forks have in common, imports and launchers, is there too."""
    save_model(line.folder / "models/disc", seed=0)
    options = ["--category", "disc", "--model", "models", "--out", "corpus"]
    line.run("synthesize", *options, launcher=launcher)
    (verified,) = line.start("verify", "corpus")
    assert "5 samples in 2 shards" in verified.done().text
