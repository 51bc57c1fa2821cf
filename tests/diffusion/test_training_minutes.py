"""Minutes of a training: all that is done for a model is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import UNet2DModel

from sia_gen import SDASPipeline
from sia_gen.diffusion import preview, training
from tests.clock import Clock

if TYPE_CHECKING:
    from tests.diffusion.conftest import Train

# Steps that take 12 seconds each, and 30 seconds for a preview of all images held out.
SETTINGS = {"image_size": 8, "batch_size": 4, "max_steps": 1000, "checkpoint_every": 1000}
Columns = int | None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """An image takes a second on its way through the network, and two on the way back."""

    def seconds(_: UNet2DModel, images: torch.Tensor, *__: Any) -> float:
        return len(images) * (3 if torch.is_grad_enabled() else 1)

    clock = Clock(monkeypatch)
    # The minutes begin after it, and it passes images through a copy of the network.
    monkeypatch.setattr(training, "report_memory", lambda *_: None)
    clock.takes(UNet2DModel, "forward", seconds)
    clock.takes(training, "TrainingState", 10)
    clock.takes(training, "save_checkpoint", 4)
    clock.takes(SDASPipeline, "save_pretrained", 1)
    return clock


def columns(out: Path) -> Columns:
    """How many samples the figures of a model are of, as its report says; None without figures."""
    readiness = json.loads((out / "disc/training.json").read_text())["readiness"]
    return None if readiness is None else readiness["samples"]


@pytest.mark.parametrize(("minutes", "expected"), [(4, 3), (1, 1), (0.5, None)])
def test_minutes_are_those_until_the_model_is_published(
    train: Train, clock: Clock, minutes: float, expected: Columns, capsys: pytest.CaptureFixture
) -> None:
    out = train(**SETTINGS, max_minutes=minutes)
    assert 0.6 * 60 * minutes < clock.now <= 60 * minutes
    assert columns(out) == expected
    assert len([*(out / "previews").rglob("*.png")]) == (expected is not None)
    said = capsys.readouterr().err
    assert said.count("previews have ") == (expected == 1)
    assert said.count("--max-minutes leaves no time for the last preview") == (expected is None)


def test_previews_on_the_way_tell_how_long_the_last_one_takes(train: Train, clock: Clock) -> None:
    # More than any estimate foresees.
    clock.takes(preview, "contact_sheet", 60)
    out = train(**SETTINGS, max_minutes=8, preview_every=4)
    assert 0.6 * 480 < clock.now <= 480
    assert columns(out) == 3


def test_previews_that_turn_out_slow_get_smaller(train: Train, clock: Clock) -> None:
    clock.takes(preview, "make_preview", lambda *given: 60 * len(given[1]))
    out = train(**SETTINGS, max_minutes=8, preview_every=4)
    # With 2 it was 3, and took more than a quarter of the minutes.
    assert columns(out) == 1
    assert clock.now <= 480


def test_each_run_has_its_minutes(train: Train, clock: Clock) -> None:
    steps = []
    for _ in range(2):
        started = clock.now
        out = train(**SETTINGS, max_minutes=2)
        assert 0.6 * 120 < clock.now - started <= 120
        steps.append(json.loads((out / "disc/training.json").read_text())["steps"])
    assert steps[1] == 2 * steps[0]


def test_what_there_was_no_time_to_see_the_next_run_sees(train: Train, clock: Clock) -> None:
    few: dict[str, Any] = {**SETTINGS, "max_steps": 1}
    out = train(**few, max_minutes=0.5)
    assert columns(out) is None
    assert columns(train(**few)) == 3
