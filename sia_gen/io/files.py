"""Writes files that are whole or absent: under a temporary name, synced, then renamed.

The temporary name is always the same, so the next process replaces what a killed one left behind.
"""

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

# Bytes; file names have at most 255.
_LONGEST_STEM = 200
# Number of files renamed together; a kill loses up to this many.
GROUP = 64
# The key of a description under which its place is; a different place is no difference.
PLACE = "place"
# Errors of file systems that do not sync folders.
_UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
# Windows cannot open folders and syncs only files that are open for writing.
WINDOWS = os.name == "nt"
_MOST_THREADS = 8

Item = TypeVar("Item")
Made = TypeVar("Made")


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yields a temporary path; on success its file becomes `path`, else it is removed."""
    if not isinstance(path, Path):
        # Stores show a file only after all of it has arrived.
        with TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.fs.put_file(str(Path(folder, path.name)), path.path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_of(path)
    # In a folder that others can write to, it may be a link to anywhere.
    temporary.unlink(missing_ok=True)
    try:
        with writing(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


class FileGroups:
    """Writes many files in threads, and renames those of a group together to sync less often.

    On an error the files of the last group are removed.
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
                _temporary_of(path).unlink(missing_ok=True)

    def add(self, path: Path, write: Callable[[Path], None]) -> None:
        """Calls `write` in a thread with the temporary path of a file; no path may come twice."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written[path] = self.pool.submit(_write_synced, path, write)
        if len(self.written) >= GROUP:
            self.publish()

    def publish(self) -> None:
        """Renames the files of the group, in the order in which they were added.

        Raises:
            Exception: Whatever writing one of them raised; none of the group is renamed then.
        """
        for future in self.written.values():
            future.result()
        for path in self.written:
            with writing(path):
                _temporary_of(path).replace(path)
        for folder in dict.fromkeys(path.parent for path in self.written):
            with writing(folder):
                sync(folder)
        self.written.clear()


def _write_synced(path: Path, write: Callable[[Path], None]) -> None:
    temporary = _temporary_of(path)
    temporary.unlink(missing_ok=True)
    with writing(path):
        write(temporary)
        sync(temporary)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it becomes `path`, else it is removed."""
    temporary = _temporary_of(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with writing(path):
            yield temporary
            publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(temporary: Path, path: Path) -> None:
    """Syncs `temporary` and everything in it, then renames it to `path`, which it replaces."""
    for file in [*temporary.rglob("*"), temporary]:
        sync(file)
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    temporary.rename(path)
    # The next call removes what a kill leaves here, or an open file on a network file system.
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
        if error.errno not in _UNSYNCED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_text(path: Location, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        # File names in the text may have bytes that are not UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Location, content: Any) -> None:
    """Writes a JSON file, whole or not at all; raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def shortened_stem(stem: str) -> str:
    """Returns the beginning of a file's stem that leaves room for a prefix and a suffix."""
    while len(os.fsencode(stem)) > _LONGEST_STEM:
        stem = stem[:-1]
    return stem


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(files: Iterable[Path]) -> dict[str, Any]:
    """Describes files by their names and sizes, in their order, without reading them."""
    found = []
    for file in files:
        # Whoever reads a missing file reports it.
        size = os.path.getsize(file) if os.path.isfile(file) else -1
        found.append(f"{file.name} {size}")
    digest = hashlib.sha256("\n".join(found).encode(errors="surrogateescape"))
    return {"files": len(found), "sha256": digest.hexdigest()}


def prepare_output(folder: Location) -> None:
    """Makes an output folder.

    Raises:
        OutputError: If it is a file, cannot be written to, or is on the Hub.
    """
    if not isinstance(folder, Path) and folder.protocol == "hf":
        raise OutputError(
            problem=f"{folder} is on the Hub, where every file would be a commit.",
            fix="Choose a folder on a disk, then publish it with 'sia-gen push-to-hub'.",
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


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Yields a pool of threads that drops the work not yet begun if an error occurs."""
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def batches_ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], batches: Iterable[Sequence[Item]]
) -> Iterator[list[Future[Made]]]:
    """Yields the results for each batch in order, while the pool works on the next batch."""
    begun: deque[list[Future[Made]]] = deque()
    for batch in batches:
        begun.append([pool.submit(make, item) for item in batch])
        if len(begun) > 1:
            yield begun.popleft()
    yield from begun
