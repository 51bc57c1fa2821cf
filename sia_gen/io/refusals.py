"""What a disk refuses, told alike whoever was reading or writing, and what to do about it."""

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
ROOM = f"Free some room, {AGAIN}"
WRITABLE = f"Make it writable, {AGAIN}"
READABLE = f"Make it readable, {AGAIN}"
CHECK = f"Check the disk, {AGAIN}"
# A folder on which something is mounted cannot be replaced.
BELOW = "Choose a folder below it with --out."
FIXES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: f"Allow files of that size, or choose another disk, {AGAIN}",
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.EIO: CHECK,
    errno.ESTALE: CHECK,
    errno.ENODEV: CHECK,
    errno.ENOTCONN: CHECK,
    errno.EBUSY: BELOW,
    errno.EXDEV: BELOW,
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
READING_FIXES = FIXES | {errno.EACCES: READABLE, errno.EPERM: READABLE}
# What torch says when it cannot write a file; hardly ever why.
TORCH_WRITER = ("inline_container.cc", "iostream error")
# With less left than this, in bytes, a disk is full.
FULL = 1 << 16


class ReadError(OSError):
    """What a disk refuses to give."""


@contextmanager
def reading(path: Location) -> Iterator[None]:
    """Makes what a disk refuses a `ReadError` that names the file; other errors stay as they are.

    An `OSError` by itself does not say whether it was met in reading or in writing.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FIXES:
            raise
        raise ReadError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes what a disk refuses an `OSError` that names the file or folder, whoever raised it.

    Libraries that write in C++ or Rust have errors of their own, in which the reason is but text.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FIXES:
            error.filename = str(path)
        raise
    except (SafetensorError, RuntimeError) as error:
        reason = reason_of(error, path)
        if reason is None:
            raise
        raise OSError(reason, os.strerror(reason), str(path)) from error


def reason_of(error: Exception, path: Path) -> int | None:
    """The number of the reason why `path` cannot be written; None if the error is another."""
    text = str(error)
    for number in FIXES:
        if os.strerror(number) in text:
            return number
    if not any(sign in text for sign in TORCH_WRITER):
        return None
    return errno.ENOSPC if shutil.disk_usage(path.parent).free < FULL else errno.EIO


def explain_refusal(error: OSError) -> str | None:
    """What a disk refused and how to mend it, one line; None if the error is another."""
    if error.errno not in FIXES:
        return None
    reads = isinstance(error, ReadError)
    where = error.filename or "the output"
    fix = (READING_FIXES if reads else FIXES)[error.errno]
    return f"cannot {'read' if reads else 'write'} {where}: {error.strerror}. {fix}"
