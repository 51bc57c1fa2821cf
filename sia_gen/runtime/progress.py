"""Progress of long work: how long it will take, then a bar on a terminal or lines in a log.

The first steps are timed. If all of them take long, a line says how long, and what takes less.
"""

import math
import os
import sys
import time
from contextvars import ContextVar
from itertools import pairwise
from typing import Self

from tqdm import tqdm

from sia_gen.errors import one_line

SECONDS_BETWEEN_LINES = 30.0
# Work is announced that takes at least this long, once steps have been timed for so many seconds.
LONG, TIMED = 60.0, 5.0
# What makes the work of a command shorter, for its announcement; the command line knows.
SHORTER: ContextVar[str] = ContextVar("SHORTER", default="")
UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def notice(text: str) -> None:
    """Prints a line on stderr, once per run even if several processes share it."""
    if os.environ.get("RANK", "0") == "0":
        print(one_line(text), file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """Formats a time in its largest unit, and the next if there are few, such as `3 h 40 min`."""
    for (unit, length), (smaller, part) in pairwise(UNITS):
        parts = round(seconds / part)
        if parts * part >= length:
            whole, rest = divmod(parts, length // part)
            # Seconds beside minutes would promise too much.
            if whole >= 10 or smaller == "s":
                whole, rest = round(seconds / length), 0
            beside = f" {rest} {smaller}" if rest else ""
            return f"{whole} {unit}{'s' if unit == 'day' and whole > 1 else ''}{beside}"
    return f"{seconds:.0f} s"


def in_percent(share: float, decimals: int = 0) -> str:
    """Formats a share of images, pixels or time, such as `5 %` of 0.05; metrics are no shares."""
    return f"{100 * share:.{decimals}f} %"


def announcement(work: str, seconds: float, *, also: str = "") -> str | None:
    """Returns a line that says how long work takes, and what takes less; None if it is short."""
    if seconds < LONG:
        return None
    return f"{work} takes about {in_words(seconds)} on this machine{also}{what_takes_less(seconds)}"


def what_takes_less(seconds: float) -> str:
    """Returns the end of a line about work of some seconds; empty if the command knows nothing."""
    minutes = 30 if seconds > 3600 else max(1, int(seconds / 120))
    shorter = SHORTER.get().format(minutes=minutes)
    return f"; {shorter}" if shorter else ""


class Progress:
    """Counts steps towards a total, of which an earlier run may have `done` some.

    Args:
        title: Name of the work.
        total: Number of steps.
        done: Number of steps that an earlier run did.
        visible: Whether this process shows anything.
        limit: Seconds after which the work ends, whatever has been done.
        works: Number of works like this that remain, this one included.
        alike: Whether all steps take as long, so that the first tell how long all take.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        visible: bool = True,
        limit: float = math.inf,
        works: int = 1,
        alike: bool = True,
    ) -> None:
        self.title, self.total, self.done = title, total, done
        self.visible, self.note = visible, ""
        self.limit, self.works = limit, works
        self.started_at, self.started_with = time.monotonic(), done
        self.last_line = self.started_at
        # Steps of which a part is done.
        self.begun = 0.0
        # When the first step ended, and what was done by then. It may take longer than others.
        self.timed_from: tuple[float, float] | None = None
        self.announced = not (visible and alike)
        terminal = visible and sys.stderr.isatty()
        self.bar = tqdm(desc=title, total=total, initial=done) if terminal else None

    def __enter__(self) -> Self:
        self._print_line()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        self._print_line()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Counts steps that are done."""
        self.done += steps
        self.note, self.begun = note, 0.0
        self._time_steps()
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(steps)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def begin(self, steps: float) -> None:
        """Counts a part of steps that take so long together that they are timed before they end."""
        self.begun += steps
        self._time_steps()

    def skip(self, steps: int) -> None:
        """Counts steps that need not be done, and tell nothing about the time of others."""
        self.total -= steps
        if self.bar is not None:
            self.bar.total = self.total

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self.visible:
            tqdm.write(text, file=sys.stderr)

    def _time_steps(self) -> None:
        """Announces the work as soon as its first steps tell how long it takes."""
        if self.announced:
            return
        now, done = time.monotonic(), self.done + self.begun
        if self.timed_from is None:
            self.timed_from = now, done
        started, before = self.timed_from
        if now - started < TIMED or done <= before:
            return
        self.announced = True
        steps = self.total - self.started_with
        each = (now - started) / (done - before)
        seconds = min(each * steps, self.limit)
        also = ""
        if seconds < 0.9 * each * steps:
            also = f", enough for about {seconds / each:.0f} of {self.total} steps"
        if self.works > 1:
            also += f", and all {self.works} of them about {in_words(self.works * seconds)}"
        line = announcement(self.title, seconds, also=also)
        if line is not None:
            self.say(line)

    def _print_line(self) -> None:
        """Prints the count and the time left at the speed so far, unless there is a bar."""
        if self.bar is not None or not self.visible:
            return
        self.last_line = time.monotonic()
        advanced = self.done - self.started_with
        parts = [f"{self.title}: {self.done}/{self.total}", self.note]
        if advanced and self.done < self.total:
            each = (self.last_line - self.started_at) / advanced
            parts.append(f"{in_words(each * (self.total - self.done))} left")
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)
