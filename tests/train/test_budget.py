from __future__ import annotations

import pytest
import torch

from sia_gen.runtime.device import Runtime
from sia_gen.train import loop
from sia_gen.train.loop import Budget
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def make(minutes: float | None) -> Budget:
    return Budget(minutes, Runtime("fp32", "cpu").accelerator())


def test_without_minutes_there_is_no_end(clock: Clock) -> None:
    endless = make(None)
    assert endless.spare > 0
    clock.now = 1e9
    assert not endless.is_up(1)


def test_a_step_that_would_take_of_what_is_kept_is_not_begun(clock: Clock) -> None:
    few = make(10)
    with few.measured():
        clock.now += 40
    few.preview = 60
    few.begin(0)
    # 600 seconds are 40, and 150 for the end, and 41 steps.
    up = []
    for done in range(1, 43):
        clock.now += 10
        up.append(few.is_up(done))
    assert up.index(True) + 1 == 41


def test_what_the_compiler_takes_does_not_count(clock: Clock) -> None:
    few = make(10)
    clock.now += 100
    few.begin(0)
    clock.now += 1000
    few.exclude(1)
    assert few.left == 500
    assert not few.is_up(1)


def test_several_processes_agree_now_and_then(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for each other then, so not in each step."""
    asked: list[int] = []

    def broadcast(over: torch.Tensor) -> torch.Tensor:
        asked.append(int(over))
        return over

    few = make(1)
    monkeypatch.setattr(loop, "broadcast", broadcast)
    monkeypatch.setattr(type(few.accelerator), "num_processes", 2)
    up = []
    for done in range(1, 31):
        clock.now += 1
        up.append(few.is_up(done))
    # Half a minute is kept, which the ten steps after the 20th leave alone.
    assert asked == [0, 0, 1]
    assert up == [done == 30 for done in range(1, 31)]
