"""Errors of disks: which file was read or written, and what the user can do about it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

if TYPE_CHECKING:
    from sia_gen.io.locations import Location

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


class ReadError(OSError):
    """An error of a disk in reading; other `OSError`s are taken for errors in writing."""


@contextmanager
def reading(path: Location) -> Iterator[None]:
    """Turns an error of the disk into a `ReadError` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno not in FIXES:
            raise
        raise ReadError(error.errno, os.strerror(error.errno), str(path)) from error


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
        reason = _reason_of(error, path)
        if reason is None:
            raise
        raise OSError(reason, os.strerror(reason), str(path)) from error


def _reason_of(error: Exception, path: Path) -> int | None:
    """The errno that a library's error stands for; None if it is no error of the disk."""
    text = str(error)
    for number in FIXES:
        if os.strerror(number) in text:
            return number
    if not any(sign in text for sign in _TORCH_WRITER):
        return None
    return errno.ENOSPC if shutil.disk_usage(path.parent).free < _FULL else errno.EIO


def explain_refusal(error: OSError) -> str | None:
    """Returns a line on what the disk refused and the fix; None for other errors."""
    if error.errno not in FIXES:
        return None
    reads = isinstance(error, ReadError)
    fix = FIXES[error.errno]
    if reads and fix == _WRITABLE:
        fix = f"Make it readable, {AGAIN}"
    where = error.filename or "the output"
    return f"cannot {'read' if reads else 'write'} {where}: {error.strerror}. {fix}"
