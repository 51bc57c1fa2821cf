"""Progress of long work: a bar on a terminal, otherwise a line every 30 seconds."""

import os
import sys
import time
from typing import Self

from tqdm import tqdm

from sia_gen.errors import one_line

SECONDS_BETWEEN_LINES = 30.0


def notice(text: str) -> None:
    """Prints a line on stderr, once per run even if several processes share it."""
    if os.environ.get("RANK", "0") == "0":
        print(one_line(text), file=sys.stderr, flush=True)


class Progress:
    """Counts steps towards a total, of which an earlier run may have `done` some."""

    def __init__(self, title: str, total: int, *, done: int = 0, visible: bool = True) -> None:
        self.title, self.total, self.done = title, total, done
        self.visible, self.note = visible, ""
        self.started_at, self.started_with = time.monotonic(), done
        self.last_line = self.started_at
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
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(steps)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self.visible:
            tqdm.write(text, file=sys.stderr)

    def _print_line(self) -> None:
        """Prints the count and the time left at the speed so far, unless there is a bar."""
        if self.bar is not None or not self.visible:
            return
        self.last_line = time.monotonic()
        advanced = self.done - self.started_with
        parts = [f"{self.title}: {self.done}/{self.total}", self.note]
        if advanced and self.done < self.total:
            each = (self.last_line - self.started_at) / advanced
            parts.append(f"{each * (self.total - self.done):.0f} s left")
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)
