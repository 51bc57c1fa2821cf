"""Explains running out of memory: what was too large, and which setting makes it smaller."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sia_gen.errors import OptionError, first_line

# Messages of PyTorch, CUDA, MPS and operating systems; most come in a bare `RuntimeError`.
_SIGNS = re.compile(
    "out of (shared )?memory|allocate (shared )?memory|not enough memory|_ALLOC(ATION)?_FAILED|"
    "bad_?alloc"
)


@contextmanager
def explained_out_of_memory(problem: str, fix: str) -> Iterator[None]:
    """Turns a failed allocation into an `OptionError` with a problem and a fix, full sentences."""
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise OptionError(problem=problem, fix=fix) from error


def ran_out(error: BaseException) -> bool:
    """Returns whether an error means that the memory of the host or a device ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # PyTorch may not have been imported, so its class is not available.
    named = type(error).__name__ == "OutOfMemoryError"
    said = isinstance(error, RuntimeError) and _SIGNS.search(str(error)) is not None
    return isinstance(error, MemoryError) or named or said


def explain(error: Exception) -> str | None:
    """Returns a line on memory that ran out for no known reason; None for other errors."""
    if not ran_out(error):
        return None
    return (
        f"out of memory ({first_line(error).rstrip('.')}). Stop other programs that need memory, "
        "use --device cpu or --precision bf16 if the command has it, or lower 'batch_size'."
    )
