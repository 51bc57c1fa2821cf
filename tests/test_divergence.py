from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sia_gen.divergence import MOST_SKIPPED, DivergenceGuard
from sia_gen.errors import TrainingError

NAN = torch.tensor(float("nan"))
RATE = "diffusion.learning_rate"


def test_finite_gradients_pass(tmp_path: Path) -> None:
    DivergenceGuard("mono", tmp_path, RATE).check(0, torch.tensor(1e6), precision="no")


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_first_step_that_is_not_finite_stops(tmp_path: Path, value: str, precision: str) -> None:
    (tmp_path / "step-00000200").mkdir()
    norm = torch.tensor(float(value))
    with pytest.raises(TrainingError, match=r"^mono: .* step 207; the checkpoint of step 200"):
        DivergenceGuard("mono", tmp_path, RATE).check(206, norm, precision=precision)


def test_without_a_checkpoint_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none was saved"):
        DivergenceGuard("mono", tmp_path, RATE).check(0, NAN, precision="no")


def test_half_precision_may_skip_some_steps_but_not_for_ever(tmp_path: Path) -> None:
    guard = DivergenceGuard("mono", tmp_path, RATE)
    for _ in range(2):
        for step in range(MOST_SKIPPED):
            guard.check(step, NAN, precision="fp16")
        guard.check(MOST_SKIPPED, torch.tensor(1.0), precision="fp16")
    for step in range(MOST_SKIPPED):
        guard.check(step, NAN, precision="fp16")
    with pytest.raises(TrainingError):
        guard.check(MOST_SKIPPED, NAN, precision="fp16")
