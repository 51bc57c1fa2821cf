"""What the machine refuses, disk or memory, and what the user can do about it."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sia_gen.errors import OptionError, first_line

AGAIN = "then run the same command again: it goes on."
_ROOM = f"Free some room, {AGAIN}"
_CHECK = f"Check the disk, {AGAIN}"
_WRITABLE = f"Make it writable, {AGAIN}"
# A mounted folder cannot be replaced.
_BELOW = "Choose a folder below it with --out."
FIXES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: f"Allow files of that size, or choose another disk, {AGAIN}",
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EIO: _CHECK,
    errno.ESTALE: _CHECK,
    errno.ENODEV: _CHECK,
    errno.ENOTCONN: _CHECK,
    errno.EBUSY: _BELOW,
    errno.EXDEV: _BELOW,
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
# Signs in torch's error of a file that it cannot write; the reason is hardly ever in it.
_TORCH_WRITER = ("inline_container.cc", "iostream error")
# Bytes; a disk with less free space is full.
_FULL = 1 << 16
# Messages of PyTorch, CUDA, MPS and operating systems; most come in a bare `RuntimeError`.
_MEMORY = re.compile(
    "out of (shared )?memory|allocate (shared )?memory|not enough memory|_ALLOC(ATION)?_FAILED|"
    "bad_?alloc"
)


class ReadError(OSError):
    """An error of a disk in reading; other `OSError`s are taken for errors in writing."""


@contextmanager
def reading(place: object) -> Iterator[None]:
    """Turns an error of the disk into a `ReadError` that names a path or URL."""
    try:
        yield
    except OSError as error:
        if error.errno not in FIXES:
            raise
        raise ReadError(error.errno, os.strerror(error.errno), str(place)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds the name of the file or folder to an error of the disk.

    Libraries that write in C++ or Rust raise other errors, which become an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FIXES:
            error.filename = str(path)
        raise
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        reason = next((number for number in FIXES if os.strerror(number) in text), None)
        if reason is None and any(sign in text for sign in _TORCH_WRITER):
            reason = errno.ENOSPC if shutil.disk_usage(path.parent).free < _FULL else errno.EIO
        if reason is None:
            raise
        raise OSError(reason, os.strerror(reason), str(path)) from error


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
    said = isinstance(error, RuntimeError) and _MEMORY.search(str(error)) is not None
    return isinstance(error, MemoryError) or named or said


def explain_refusal(error: Exception) -> str | None:
    """Returns a line on what the machine refused and the fix; None for other errors."""
    if ran_out(error):
        return (
            f"out of memory ({first_line(error).rstrip('.')}). Stop other programs that need "
            "memory, use --device cpu or --precision bf16 if the command has it, or lower "
            "'batch_size'."
        )
    if not isinstance(error, OSError) or error.errno not in FIXES:
        return None
    reads = isinstance(error, ReadError)
    fix = FIXES[error.errno]
    if reads and fix == _WRITABLE:
        fix = f"Make it readable, {AGAIN}"
    where = error.filename or "the output"
    return f"cannot {'read' if reads else 'write'} {where}: {error.strerror}. {fix}"
