"""Progress of long work: a bar on a terminal, a line every 30 seconds otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts steps towards a total; `note` is shown beside the count.

    Args:
        title: What is being done, e.g. "mono: training diffusion".
        total: Steps in all.
        done: Steps done by an earlier run.
        visible: False in all processes but the first.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, visible: bool = True) -> None:
        self.title = title
        self.total = total
        self.done = done
        self.note = ""
        self.visible = visible
        self.started_at, self.started_with = time.monotonic(), done
        self.last_line = self.started_at
        terminal = visible and sys.stderr.isatty()
        self.bar = tqdm(desc=title, total=total, initial=done) if terminal else None

    def __enter__(self) -> Self:
        if self.visible and self.bar is None:
            self.print_line()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.visible:
            self.print_line()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Counts steps that are done."""
        self.done += steps
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(steps)
        elif self.visible and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.print_line()

    def say(self, text: str) -> None:
        """Prints a line of its own, above the bar if there is one."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)

    def print_line(self) -> None:
        """Prints where things stand, with the time that is left at the speed so far."""
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.started_at
        advanced = self.done - self.started_with
        parts = [f"{self.title}: {self.done}/{self.total}", self.note]
        if advanced and self.done < self.total:
            parts.append(f"{elapsed / advanced * (self.total - self.done):.0f} s left")
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)
