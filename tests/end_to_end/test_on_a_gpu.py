"""The way of the data on a GPU, where there is one: what a CPU cannot show."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from sia_gen.io.files import sha256
from tests.end_to_end.conftest import FRESH, CommandLine

pytestmark = [
    pytest.mark.from_nothing,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    # Networks are compiled four times.
    pytest.mark.timeout(1800),
]
ON_GPU = ["--device", "cuda", "--precision", "bf16", "--category", "disc"]


def test_every_command_works_and_resumes_on_a_gpu(line: CommandLine) -> None:
    data, run = ["--data", str(line.data)], partial(line.run, **FRESH)
    # From a checkpoint on, and with norms in half precision.
    run("train-diffusion", *data, *ON_GPU, "--max-steps", "2")
    run("train-diffusion", *data, *ON_GPU, "--max-steps", "4")

    strength = ["--strength", "0.1:0.2"]
    run("synthesize", *ON_GPU, *strength)
    run("synthesize", *ON_GPU, *strength, "--compile", "--out", "compiled")
    run("synthesize", *ON_GPU, *strength, "--compile", "--out", "compiled-again")
    shards = [
        [sha256(path) for path in sorted((line.folder / out).rglob("*.tar"))]
        for out in ("compiled", "compiled-again")
    ]
    assert shards[0]
    assert shards[0] == shards[1]
    twins = ["--twins", "--source", "image", "--start", "0.5", "--out", "twins"]
    run("synthesize", *data, *ON_GPU, *strength, *twins)

    run("fit-realnet", *data, *ON_GPU, "--max-steps", "2")
    run("fit-realnet", *data, *ON_GPU, "--max-steps", "4")
    run("fit-realnet", *data, *ON_GPU, "--compile", "--out", "compiled-fit")
    run("evaluate", *data, *ON_GPU)
