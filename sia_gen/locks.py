"""One process at a time: locks on an output folder that end with the process that holds them.

OUT/
    .locks/
        <name>.lock         held by whoever works on that part of the output
        settling.lock       held for the moment in which the files of the whole folder are read and
                            written anew

The files are empty and stay. What locks is the operating system, so that nothing has to be cleaned
up after a kill. An output at a URL is not locked: stores have no locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sia_gen.errors import OutputError
from sia_gen.locations import Location

LOCKS = ".locks"
SETTLING = "settling"
HELD = {errno.EACCES, errno.EAGAIN}
# To the operating system, a lock of no length has no end.
EVERYTHING = range(0)


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
    with lock_file(out, name) as file:
        try:
            if file is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, len(samples), samples.start)
        except OSError as error:
            if error.errno in HELD:
                raise OutputError(
                    problem=f"another process is at work on {out} ({name}).",
                    fix="Wait until it is done or stop it, or choose another folder with --out.",
                ) from error
            warn_of_no_locks(out, error)
        with noticing_removal(out, name):
            yield


@contextmanager
def noticing_removal(out: Location, name: str) -> Iterator[None]:
    """Tells that an output was removed under way, whatever else went wrong because of it."""
    try:
        yield
    except Exception as error:
        require_lock_file(out, name, error)
        raise
    require_lock_file(out, name, None)


def require_lock_file(out: Location, name: str, error: Exception | None) -> None:
    """Raises `OutputError` if the file of a lock is gone, and with it what was in the folder."""
    if isinstance(out, Path) and not lock_path(out, name).exists():
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
    with lock_file(out, SETTLING) as file:
        try:
            if file is not None:
                fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:
            warn_of_no_locks(out, error)
        yield


@contextmanager
def lock_file(out: Location, name: str) -> Iterator[int | None]:
    """The descriptor of a lock's file; None at a URL. Closing it ends the lock."""
    if not isinstance(out, Path):
        yield None
        return
    path = lock_path(out, name)
    try:
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError as error:
        raise removed(out) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_path(out: Path, name: str) -> Path:
    """The file of a lock."""
    return out / LOCKS / f"{name}.lock"


def warn_of_no_locks(out: Location, error: OSError) -> None:
    """Some network file systems have no locks; work goes on there without."""
    print(
        f"warning: {out} cannot be locked ({error.strerror}): see to it that no other process "
        "writes there.",
        file=sys.stderr,
    )
