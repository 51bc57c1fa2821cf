"""Progress: a bar for people, few lines for logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from sia_gen.runtime.progress import (
    SECONDS_BETWEEN_LINES,
    SHORTER,
    Progress,
    announcement,
    in_words,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture(autouse=True)
def no_command() -> Iterator[None]:
    """None that was run before offers its options."""
    token = SHORTER.set("")
    yield
    SHORTER.reset(token)


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
        assert capsys.readouterr().err.splitlines() == [
            "working takes about 5 min on this machine",
            "working: 2/10, loss 0.1, 2 min left",
        ]
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (150, "2 min"),
        (200, "3 min"),
        (3599, "1 h"),
        (13_210, "3 h 40 min"),
        (3600 * 14.6, "15 h"),
        (86_399, "1 day"),
        (86400 * 3 + 3600 * 16, "3 days 16 h"),
        (86400 * 400, "400 days"),
    ],
)
def test_times_are_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_short_work_is_not_announced() -> None:
    assert announcement("working", 59) is None
    assert announcement("working", 61) == "working takes about 1 min on this machine"


def test_announcement_says_what_takes_less() -> None:
    token = SHORTER.set("--max-minutes {minutes} takes less")
    try:
        for seconds, minutes in ((90, 1), (1200, 10), (3600, 30), (86_400, 30)):
            line = announcement("working", seconds)
            assert line is not None
            assert line.endswith(f"; --max-minutes {minutes} takes less")
            assert 60 * minutes < seconds
    finally:
        SHORTER.reset(token)


def announced(capsys: Captured) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "takes about" in line]


def test_long_work_is_announced_once_after_its_first_steps(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 2000) as progress:
        # The first step prepares what the others use.
        for seconds in (40, 2, 2, 2):
            clock.now += seconds
            progress.advance()
        assert announced(capsys) == ["working takes about 1 h 7 min on this machine"]
        clock.now += 100
        progress.advance()
    assert announced(capsys) == []


def test_work_that_ends_soon_is_not_announced(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 20) as progress:
        for _ in range(20):
            clock.now += 2
            progress.advance()
    assert announced(capsys) == []


def test_batches_count_as_the_steps_in_them(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 1600) as progress:
        for number in range(48):
            clock.now += 0 if number % 16 else 8
            progress.advance()
    assert announced(capsys) == ["working takes about 13 min on this machine"]


def test_what_an_earlier_run_did_is_not_announced_again(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 1000, done=900) as progress:
        for _ in range(3):
            clock.now += 6
            progress.advance()
    assert announced(capsys) == ["working takes about 10 min on this machine"]


def test_parts_of_steps_tell_the_time_before_the_first_ends(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 32) as progress:
        for _ in range(4):
            clock.now += 100
            progress.begin(0.5)
        assert announced(capsys) == ["working takes about 1 h 47 min on this machine"]
        assert progress.done == 0


def test_steps_that_need_not_be_done_do_not_count(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 100) as progress:
        progress.skip(50)
        for _ in range(3):
            clock.now += 6
            progress.advance()
    assert announced(capsys) == ["working takes about 5 min on this machine"]
    assert progress.total == 50


def test_limit_says_for_how_many_steps_there_is_time(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 20_000, limit=1800) as progress:
        for _ in range(3):
            clock.now += 6
            progress.advance()
    (line,) = announced(capsys)
    assert line == (
        "working takes about 30 min on this machine, enough for about 300 of 20000 steps"
    )


def test_works_that_follow_are_announced_too(clock: Clock, capsys: Captured) -> None:
    with Progress("working", 1200, works=15) as progress:
        for _ in range(3):
            clock.now += 6
            progress.advance()
    assert announced(capsys) == [
        "working takes about 2 h on this machine, and all 15 of them about 1 day 6 h"
    ]
