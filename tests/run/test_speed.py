"""The measured speed of a machine on which other programs run now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from sia_gen.run.speed import ENOUGH, TURNS, seconds_of

CPU = torch.device("cpu")


class Machine:
    """A clock that goes on with what is run, more slowly while other programs are busy."""

    def __init__(self, busy: tuple[float, float] = (0.0, 0.0), slower: float = 6.0) -> None:
        self.now, self.busy, self.slower = 0.0, busy, slower
        self.runs: list[str] = []

    def monotonic(self) -> float:
        return self.now

    def run(self, name: str, seconds: float) -> None:
        self.runs.append(name)
        is_busy = self.busy[0] <= self.now < self.busy[1]
        self.now += seconds * (self.slower if is_busy else 1.0)


def timed(
    machine: Machine, seconds: Mapping[str, float], patch: pytest.MonkeyPatch
) -> dict[str, float]:
    patch.setattr("time.monotonic", machine.monotonic)

    def run(name: str) -> Callable[[], None]:
        return lambda: machine.run(name, seconds[name])

    return seconds_of({name: run(name) for name in seconds}, CPU)


SECONDS = {"train": 0.5, "denoise": 0.2, "fit": 0.7, "picture": 0.01}


@pytest.mark.parametrize("until", [0.0, 1.0, 4.0, 9.0])
@pytest.mark.parametrize("since", [0.0, 1.5])
def test_load_that_ends_while_speed_is_measured_does_not_count(
    since: float, until: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = timed(Machine((since, since + until)), SECONDS, monkeypatch)
    assert found == pytest.approx(SECONDS)


def test_load_that_stays_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timed(Machine((0.0, 1e9), slower=2.0), SECONDS, monkeypatch)
    assert found == pytest.approx({name: 2 * taken for name, taken in SECONDS.items()})


def test_what_takes_long_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    found = timed(machine, {"short": 0.1, "long": ENOUGH + 1}, monkeypatch)
    assert found == pytest.approx({"short": 0.1, "long": ENOUGH + 1})
    assert (machine.runs.count("short"), machine.runs.count("long")) == (1 + TURNS, 2)
