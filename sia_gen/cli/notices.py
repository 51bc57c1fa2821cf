"""Warnings, and errors that end a thread: a line each on stderr, without a place in the source."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from sia_gen.errors import one_line

# What libraries warn of that needs nobody's attention: message, category and module.
NOISE = (
    # It goes on to choose a number of threads for several processes on a CPU, as it should.
    ("OMP_NUM_THREADS/MKL_NUM_THREADS unset", UserWarning, r"accelerate\.state"),
)


@contextmanager
def plain_notices() -> Iterator[None]:
    """Shows warnings and errors of threads as lines for the user, but for known noise."""
    if "RANK" in os.environ:
        # PyTorch, which is imported later, logs a connection to another process that is lost with a
        # trace of C++; `sia_gen.runtime.processes` says so in a line.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    shown_before = threading.excepthook
    with warnings.catch_warnings():
        for message, category, module in NOISE:
            warnings.filterwarnings("ignore", message, category, module)
        warnings.showwarning = show_warning
        threading.excepthook = show_thread_error
        try:
            yield
        finally:
            threading.excepthook = shown_before


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning; called as `warnings.showwarning` is."""
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


def show_thread_error(failure: threading.ExceptHookArgs) -> None:
    """Says which thread failed, and why."""
    error, thread = failure.exc_value, failure.thread
    # TensorBoard's threads keep theirs for the main thread, which raises it.
    if isinstance(error, SystemExit) or getattr(thread, "exception", failure) is error:
        return
    name = thread.name if thread is not None else "unknown"
    reason = one_line(f"{failure.exc_type.__name__}: {error}")
    print(f"warning: the thread '{name}' failed ({reason}).", file=sys.stderr)
