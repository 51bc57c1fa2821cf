"""One process at a time: locks on an output folder that end with the process that holds them.

OUT/
    .locks/
        <name>.<start>-<stop>.lock      held by whoever works on these samples of a part
        claiming.lock                   held while a process looks at what others hold
        settling.lock                   held for the moment in which the files of the whole folder
                                        are read and written anew

The files are empty and stay: a process that deleted one could take it from another that has just
opened it. What locks is the operating system, so that nothing has to be cleaned up after a kill. An
output at a URL is not locked: stores have no locks.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor, unlock_descriptor

from sia_gen.errors import OutputError
from sia_gen.io.locations import Location

LOCKS = ".locks"
CLAIMING, SETTLING = "claiming.lock", "settling.lock"
# No part has more samples.
EVERYTHING = range(10**8)
# Files that this process has locked, or is about to lock.
OPENED: set[BinaryIO] = set()


def let_go() -> None:
    """Closes the files of a process that was forked: they are its parent's, and end with it."""
    for file in OPENED:
        file.close()
    OPENED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go)


@contextmanager
def working_on(out: Location, name: str, samples: range = EVERYTHING) -> Iterator[None]:
    """Holds a part of an output, or refuses at once if another process holds any of it.

    Args:
        out: The output folder, which is there.
        name: Of the part, such as a category.
        samples: Those of the part that are worked on.

    Raises:
        OutputError: If another process holds any of them, or the folder is removed meanwhile.
    """
    if not isinstance(out, Path):
        yield
        return
    own = f"{name}.{samples.start}-{samples.stop}.lock"
    with opened(out, CLAIMING) as claiming, opened(out, own) as file:
        lock(out, claiming, wait=True)
        for other in claims_on(out, name, samples) - {own}:
            with opened(out, other) as held:
                require_free(out, held, name)
        require_free(out, file, name)
        release(claiming)
        with noticing_removal(out, own):
            yield


def claims_on(out: Path, name: str, samples: range) -> set[str]:
    """The files of locks, old and new, on any of some samples of a part."""
    files = re.compile(rf"{re.escape(name)}\.(\d+)-(\d+)\.lock")
    found = [match for file in os.listdir(out / LOCKS) if (match := files.fullmatch(file))]
    return {
        match[0]
        for match in found
        if int(match[1]) < samples.stop and samples.start < int(match[2])
    }


def require_free(out: Path, file: BinaryIO, name: str) -> None:
    """Locks a file of a part, or raises `OutputError` if another process holds it."""
    if not lock(out, file, wait=False):
        raise OutputError(
            problem=f"another process is at work on {out} ({name}).",
            fix="Wait until it is done or stop it, or choose another folder with --out.",
        )


@contextmanager
def noticing_removal(out: Path, file: str) -> Iterator[None]:
    """Says that an output was removed under way, whatever else went wrong because of it."""
    try:
        yield
    except Exception as error:
        require_lock_file(out, file, error)
        raise
    require_lock_file(out, file, None)


def require_lock_file(out: Path, file: str, error: Exception | None) -> None:
    """Raises `OutputError` if the file of a lock is gone, and with it what was in the folder."""
    if not (out / LOCKS / file).exists():
        raise removed(out) from error


def removed(out: Path) -> OutputError:
    """The error of an output folder that is gone."""
    return OutputError(
        problem=f"the output folder {out} was removed while it was worked on.",
        fix="Run the same command again, and leave the folder in its place.",
    )


@contextmanager
def settling(out: Location) -> Iterator[None]:
    """Holds the files of the whole folder, for a moment; waits for others who do."""
    if not isinstance(out, Path):
        yield
        return
    with opened(out, SETTLING) as file:
        lock(out, file, wait=True)
        yield


@contextmanager
def opened(out: Path, name: str) -> Iterator[BinaryIO]:
    """The file of a lock. Closing it ends the lock."""
    path = out / LOCKS / name
    try:
        path.parent.mkdir(exist_ok=True)
        # Network file systems lock only what is open for writing.
        file = path.open("ab")
    except FileNotFoundError as error:
        raise removed(out) from error
    OPENED.add(file)
    try:
        yield file
    finally:
        OPENED.discard(file)
        release(file)


def release(file: BinaryIO) -> None:
    """Ends a lock at once, even if a process that was just forked has its file open too."""
    if not file.closed:
        # Where there are no locks there is none to end.
        with suppress(OSError):
            unlock_descriptor(file.fileno())
    file.close()


def lock(out: Path, file: BinaryIO, *, wait: bool) -> bool:
    """Locks a file; False if another process holds it."""
    try:
        return lock_descriptor(file.fileno(), blocking=wait)
    except OSError as error:
        warn_of_no_locks(out, error.strerror)
        return True


@cache
def warn_of_no_locks(out: Path, reason: str) -> None:
    """Some network file systems have no locks; work goes on there without. Says so once."""
    print(
        f"warning: {out} cannot be locked ({reason}): see to it that no other process "
        "writes there.",
        file=sys.stderr,
    )
