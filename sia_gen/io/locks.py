"""Locks on an output folder, which the operating system ends with the process that holds them.

OUT/
    .locks/
        <name>.<start>-<stop>.lock      held by the process that works on these samples of a part
        claiming.lock                   held while a process checks what others hold
        settling.lock                   held while a process rewrites files of the whole folder

The files are empty and stay: a process that deleted one could take it from another process that
has just opened it. An output at a URL is not locked because stores have no locks.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from sia_gen.errors import OutputError
from sia_gen.io.files import Location, removed
from sia_gen.io.refusals import FIXES

LOCKS = ".locks"
# No part has more samples.
EVERYTHING = range(10**8)


@contextmanager
def working_on(out: Location, name: str, samples: range = EVERYTHING) -> Iterator[None]:
    """Holds some samples of a part of an output, such as a category, for this process alone."""
    if not isinstance(out, Path):
        yield
        return
    own = f"{name}.{samples.start}-{samples.stop}.lock"
    pattern = re.compile(rf"{re.escape(name)}\.(\d+)-(\d+)\.lock")
    with ExitStack() as held:
        try:
            with _locked(out, "claiming.lock", wait=True):
                for path in (out / LOCKS).iterdir():
                    span = pattern.fullmatch(path.name)
                    if span and int(span[1]) < samples.stop and samples.start < int(span[2]):
                        with _locked(out, path.name, wait=False):
                            pass
                held.enter_context(_locked(out, own, wait=False))
        except Timeout as error:
            raise OutputError(
                problem=f"another process is at work on {out} ({name}).",
                fix="Wait until it is done or stop it, or choose another folder with --out.",
            ) from error
        try:
            yield
        except Exception as error:
            if not (out / LOCKS / own).exists():
                raise removed(out) from error
            raise
        if not (out / LOCKS / own).exists():
            raise removed(out)


@contextmanager
def settling(out: Location) -> Iterator[None]:
    """Holds the files of the whole folder for a moment, after other processes that do."""
    if not isinstance(out, Path):
        yield
        return
    with _locked(out, "settling.lock", wait=True):
        yield


@contextmanager
def _locked(out: Path, name: str, *, wait: bool) -> Iterator[None]:
    """Holds a lock file; raises `Timeout` if another process holds it and `wait` is false."""
    lock = FileLock(out / LOCKS / name, blocking=wait, fallback_to_soft=False)
    try:
        (out / LOCKS).mkdir(exist_ok=True)
        lock.acquire()
    except FileNotFoundError as error:
        raise removed(out) from error
    except OSError as error:
        if isinstance(error, Timeout) or error.errno in FIXES:
            raise
        _warn_of_no_locks(out, error.strerror)
    try:
        yield
    finally:
        lock.release()


@cache
def _warn_of_no_locks(out: Path, reason: str) -> None:
    print(
        f"warning: {out} cannot be locked ({reason}): make sure that no other process "
        "writes there.",
        file=sys.stderr,
    )
