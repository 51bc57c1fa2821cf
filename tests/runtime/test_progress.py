"""Progress: a bar for people, few lines for logs."""

from __future__ import annotations

import sys
import time

import pytest

from sia_gen.runtime.progress import SECONDS_BETWEEN_LINES, Progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


Captured = pytest.CaptureFixture[str]


def test_log_has_a_first_and_a_last_line(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 3) as progress:
        for _ in range(3):
            progress.advance()
    assert capsys.readouterr().err.splitlines() == ["working: 0/3", "working: 3/3"]


def test_log_grows_only_every_half_minute_and_tells_the_time_left(
    clock: Clock, capsys: Captured
) -> None:
    with Progress("working", 10) as progress:
        capsys.readouterr()
        progress.advance(note="loss 0.2")
        assert capsys.readouterr().err == ""
        clock.now += SECONDS_BETWEEN_LINES
        progress.advance(note="loss 0.1")
        assert capsys.readouterr().err == "working: 2/10, loss 0.1, 120 s left\n"
        progress.advance()
        assert capsys.readouterr().err == ""


def test_time_left_does_not_count_what_an_earlier_run_did(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 100, done=90) as progress:
        clock.now += SECONDS_BETWEEN_LINES
        progress.advance(5)
    assert capsys.readouterr().err.splitlines() == [
        "working: 90/100",
        "working: 95/100, 30 s left",
        "working: 95/100, 30 s left",
    ]


def test_other_processes_are_silent(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 2, visible=False) as progress:
        clock.now += SECONDS_BETWEEN_LINES
        progress.advance()
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("working", 4, done=1) as progress:
        progress.advance(3, note="loss 0.1")
    shown = capsys.readouterr().err
    assert "working: 100%" in shown
    assert "4/4" in shown
    assert "loss 0.1" in shown


def test_last_line_tells_where_an_error_struck(clock: Clock, capsys: Captured) -> None:
    def fail_after_one() -> None:
        with Progress("working", 3) as progress:
            progress.advance()
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_one()
    assert capsys.readouterr().err.splitlines()[-1].startswith("working: 1/3")
