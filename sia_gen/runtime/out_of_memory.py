"""Memory that ran out: what was too large for it, and which setting makes it smaller."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sia_gen.errors import OptionError, first_line

# What PyTorch, the libraries of CUDA, MPS and the operating systems say; most raise mere
# `RuntimeError`s.
SIGNS = re.compile(
    "out of (shared )?memory|allocate (shared )?memory|not enough memory|_ALLOC(ATION)?_FAILED|"
    "bad_?alloc"
)


@contextmanager
def explained_out_of_memory(problem: str, fix: str) -> Iterator[None]:
    """Turns an allocation that failed into an error that says what to change.

    Args:
        problem: What there was not enough memory for, a full sentence.
        fix: What takes less, a full sentence.

    Raises:
        OptionError: In place of what libraries raise.
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise OptionError(problem=problem, fix=fix) from error


def ran_out(error: BaseException) -> bool:
    """Whether an error is that of memory that ran out, on the host or on a device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Not by the class of PyTorch, which may not have been imported.
    named = type(error).__name__ == "OutOfMemoryError"
    said = isinstance(error, RuntimeError) and SIGNS.search(str(error)) is not None
    return isinstance(error, MemoryError) or named or said


def explain(error: Exception) -> str | None:
    """The line for memory that ran out where no setting is known to blame; None for others."""
    if not ran_out(error):
        return None
    return (
        f"out of memory ({first_line(error).rstrip('.')}). End what else takes memory, use "
        "--device cpu or --precision bf16 if the command has it, or a lower 'batch_size'."
    )
