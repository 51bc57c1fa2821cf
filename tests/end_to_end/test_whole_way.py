"""The commands a user types, one after another, as processes of their own."""

from __future__ import annotations

import json
import signal
import sys

import torch
import yaml
from safetensors.torch import load_file

from sia_gen.files import sha256
from tests.end_to_end.conftest import TWO_PROCESSES, WEIGHTS, CommandLine


def test_train_kill_resume_synthesize_verify_fit_evaluate(line: CommandLine) -> None:
    data = ["--data", str(line.data)]
    line.run("train-diffusion", *data, "--category", "disc", "--out", "unbroken")

    train = line.arguments("train-diffusion", *data, "--category", "disc")
    process = line.start(sys.executable, *train)
    line.wait_for("runs/parts/diffusion/checkpoints/disc/step-00000002", process)
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
    fit = ["fit-realnet", *data, "--category", "disc", "--out", "fit-by-two"]
    line.run(*fit, launcher=TWO_PROCESSES)
    alone, together = (
        load_file(line.folder / folder / "disc/model.safetensors")
        for folder in ("runs/parts/realnet", "fit-by-two")
    )
    for layer in range(2):
        losses = f"afs.losses_{layer}"
        assert torch.allclose(alone[losses], together[losses], rtol=1e-5)
        assert torch.equal(alone[f"afs.indices_{layer}"], together[f"afs.indices_{layer}"])
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
