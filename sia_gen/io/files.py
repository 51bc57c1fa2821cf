"""Files that are whole or absent: written under a temporary name, synced, then renamed.

The temporary name is always the same, so what a killed process leaves is replaced by the next.
Of many small files in a row, a group at a time becomes whole: the disk is waited for once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

from sia_gen.errors import OutputError
from sia_gen.io.locations import Location
from sia_gen.io.refusals import writing

# Names have at most 255 bytes.
LONGEST_STEM = 200
# Files that get their names together: so many may be written again after a kill.
GROUP = 64
# The key under which a description says where it was found, which does not count.
PLACE = "place"
# What some file systems say of a folder that is to be synced: they do so by themselves.
UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}

# It opens no folders, whose entries it keeps by itself, and syncs only what may be written.
WINDOWS = os.name == "nt"


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yields a temporary path; on success its file becomes `path`, else it is removed."""
    if not isinstance(path, Path):
        # What is put into a store appears there once all of it has arrived.
        with TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.fs.put_file(str(Path(folder, path.name)), path.path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    # In a folder of someone else's it may be a link to anywhere.
    temporary.unlink(missing_ok=True)
    try:
        with writing(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """Where a file or folder is until it is whole."""
    return path.with_name(f".{path.name}.tmp")


class FileGroups:
    """Many files, written in threads; those of a group get their names together.

    Leaving it in good order gives the last ones their names, else they are removed.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.written: dict[Path, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            for future in self.written.values():
                future.cancel()
            wait(self.written.values())
            for path in self.written:
                temporary_of(path).unlink(missing_ok=True)

    def add(self, path: Path, write: Callable[[Path], None]) -> None:
        """Has `write` called with the temporary path of a file; each path may be added once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written[path] = self.pool.submit(write_synced, path, write)
        if len(self.written) >= GROUP:
            self.publish()

    def publish(self) -> None:
        """Gives the files their names, in the order in which they were added.

        Raises:
            Exception: Whatever writing one of them raised; none of the group has its name then.
        """
        for future in self.written.values():
            future.result()
        for path in self.written:
            with writing(path):
                temporary_of(path).replace(path)
        for folder in dict.fromkeys(path.parent for path in self.written):
            with writing(folder):
                sync(folder)
        self.written.clear()


def write_synced(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file under its temporary name, until it is on the disk."""
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)
    with writing(path):
        write(temporary)
        sync(temporary)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it becomes `path`, else it is removed."""
    temporary = temporary_of(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with writing(path):
            yield temporary
            publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(temporary: Path, path: Path) -> None:
    """Syncs `temporary` with all in it and renames it to `path`, in place of what was there."""
    for file in [*temporary.rglob("*"), temporary]:
        sync(file)
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    temporary.rename(path)
    # Network file systems keep what somebody has open; it goes with the next one, as does what was
    # there when a process was killed.
    shutil.rmtree(old, ignore_errors=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    if WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_text(path: Location, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        # Names of files may be of bytes that are no text.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Location, content: Any) -> None:
    """Writes a JSON file, whole or not at all; NaN is an error."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def shortened_stem(stem: str) -> str:
    """As much of the name of a file as leaves room for what is put before and behind it."""
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_output(folder: Location) -> None:
    """Makes an output folder.

    Raises:
        OutputError: If it is a file or cannot be written to.
    """
    if not isinstance(folder, Path) and folder.protocol == "hf":
        raise OutputError(
            problem=f"{folder} is on the Hub, where every file would be a commit.",
            fix="Make it on a disk, then publish it with 'sia-gen push-to-hub'.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            problem=f"cannot make the output folder {folder}: {error.strerror or error}.",
            fix="Choose another folder with --out.",
        ) from error
    if isinstance(folder, Path) and not os.access(folder, os.W_OK):
        raise OutputError(
            problem=f"the output folder {folder} is read-only.",
            fix="Choose another folder with --out.",
        )


Item = TypeVar("Item")
Made = TypeVar("Made")

MOST_THREADS = 8


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that end with what they are at, if something goes wrong."""
    pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def batches_ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], batches: Iterable[Sequence[Item]]
) -> Iterator[list[Future[Made]]]:
    """What is made of each item of batches, in their order; of one batch ahead, no more."""
    begun: deque[list[Future[Made]]] = deque()
    for batch in batches:
        begun.append([pool.submit(make, item) for item in batch])
        if len(begun) > 1:
            yield begun.popleft()
    yield from begun


def fingerprint(files: Iterable[Path]) -> dict[str, Any]:
    """Describes files by their names and sizes, in their order; they are not read."""
    found = [f"{file.name} {size_of(file)}" for file in files]
    # Names of files may be of bytes that are no text.
    digest = hashlib.sha256("\n".join(found).encode(errors="surrogateescape"))
    return {"files": len(found), "sha256": digest.hexdigest()}


def size_of(file: Path) -> int:
    """Bytes of a file, -1 of one that is not there: whoever reads it says so."""
    try:
        return file.stat().st_size
    except OSError:
        return -1
