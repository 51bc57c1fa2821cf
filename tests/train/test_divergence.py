from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sia_gen.errors import TrainingError
from sia_gen.runtime.device import Precision, Runtime
from sia_gen.train.logs import MOST_SKIPPED, NORM, STEPS_BETWEEN_LOOKS, TrainingWatch

NAN = torch.tensor(float("nan"))
Watch = Callable[..., TrainingWatch]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    def make(precision: Precision | None = "fp32") -> TrainingWatch:
        accelerator = Runtime("fp32", "cpu").accelerator()
        if precision != "fp32":
            # Half precision needs a GPU.
            monkeypatch.setattr(Accelerator, "mixed_precision", precision)
        return TrainingWatch("mono", tmp_path, "diffusion.learning_rate", accelerator)

    return make


def test_figures_come_back_step_by_step(watch: Watch) -> None:
    watched = watch()
    for step in range(3):
        watched.add(torch.tensor(1e6), loss=torch.tensor(float(step)))
    assert watched.look(3) == [{NORM: 1e6, "loss": step} for step in (0, 1, 2)]
    watched.add(torch.tensor(1.0), loss=torch.tensor(7.0))
    assert watched.look(4) == [{NORM: 1, "loss": 7}]


def test_figures_are_those_of_their_step_whatever_is_written_there_later(watch: Watch) -> None:
    watched, loss = watch(), torch.tensor(1.0)
    watched.add(torch.tensor(1.0), loss=loss)
    loss.fill_(2)
    assert watched.look(1)[0]["loss"] == 1


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_first_step_that_is_not_finite_is_named(
    watch: Watch, tmp_path: Path, value: str, precision: Precision
) -> None:
    (tmp_path / "step-00000200").mkdir()
    watched = watch(precision)
    for norm in (1.0, 1.0, float(value), float(value), 1.0):
        watched.add(torch.tensor(norm))
    with pytest.raises(TrainingError, match=r"^mono: .* step 207; the checkpoint of step 200"):
        watched.look(209)


def test_without_a_checkpoint_it_says_so(watch: Watch) -> None:
    watched = watch()
    watched.add(NAN)
    with pytest.raises(TrainingError, match="none was saved"):
        watched.look(1)


@pytest.mark.parametrize("between", [1, STEPS_BETWEEN_LOOKS])
def test_half_precision_may_skip_some_steps_but_not_for_ever(watch: Watch, between: int) -> None:
    watched, steps = watch("fp16"), 0
    norms = ([NAN] * MOST_SKIPPED + [torch.tensor(1.0)]) * 2 + [NAN] * MOST_SKIPPED
    for norm in norms:
        watched.add(norm)
        steps += 1
        if steps % between == 0:
            watched.look(steps)
    watched.add(NAN)
    with pytest.raises(TrainingError, match=f"at step {steps + 1}; "):
        watched.look(steps + 1)
