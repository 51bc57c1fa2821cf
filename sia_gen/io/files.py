"""Files and folders, on disks and at URLs such as `s3://bucket/corpus`, whole or absent.

Files are written under a temporary name, synced, then renamed. The temporary name is always the
same, so the next process replaces what a killed one left behind.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

from pydantic_core import from_json
from upath import UPath

from sia_gen.errors import OptionError, OutputError
from sia_gen.io.refusals import reading, writing

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
THREADS = min(8, os.cpu_count() or 1)
# Bytes; the manifest of a billion samples is smaller.
LARGEST_JSON = 1 << 28

Location = Path | UPath
Item = TypeVar("Item")
Made = TypeVar("Made")


def location(text: str | Path) -> Location:
    """Returns the folder or file at a path or URL; `file://` becomes an ordinary path."""
    if not re.match(r"[a-z][a-z0-9+.-]+://", str(text)):
        return Path(text)
    try:
        found = UPath(str(text))
        filesystem = found.fs
    except (ImportError, ValueError) as error:
        raise OptionError(
            problem=f"cannot reach {text} ({' '.join(str(error).split()).rstrip('.')}).",
            fix="Install the package that fsspec needs for it, e.g. s3fs for s3://.",
        ) from error
    return Path(found.path) if filesystem.protocol[0] in ("file", "local") else found


def public_name(place: Location) -> str:
    """Returns a place without what is private: the folders of an absolute path, a URL's user."""
    if isinstance(place, Path):
        return place.name if place.is_absolute() else place.as_posix()
    return re.sub(r"(://)[^/@]*@", r"\1", str(place))


def read_range(file: Location, start: int, end: int) -> bytes:
    """Reads the bytes of a file from `start` to `end`, or to its end if that comes first."""
    # By default fsspec reads megabytes ahead.
    opened = file.open("rb") if isinstance(file, Path) else file.open("rb", cache_type="none")
    with opened as stream:
        stream.seek(start)
        return stream.read(end - start)


def files_below(folder: Location, pattern: str) -> list[str]:
    """Returns the sorted paths, relative to a folder, of everything in it that matches a glob."""
    # The two kinds share these methods, but no type.
    anywhere: Any = folder
    try:
        return sorted(path.relative_to(anywhere).as_posix() for path in anywhere.glob(pattern))
    except FileNotFoundError:
        # Some stores raise this for a missing folder.
        return []


def shipped(name: str) -> Path:
    """Returns the path of `recipes`, at the top of a checkout but inside an installed package."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.exists() else package.parent / name


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
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise
        raise removed(path.parent) from error
    finally:
        temporary.unlink(missing_ok=True)


def removed(folder: Path) -> OutputError:
    """Returns the error of a folder that was removed while a command wrote to it."""
    return OutputError(
        problem=f"the output folder {folder} was removed during the work on it.",
        fix="Run the same command again, and leave the folder in its place.",
    )


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


class FileGroups:
    """Writes many files in threads, and renames those of a group together to sync less often."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS)
        self.written: dict[Path, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self.pool.shutdown(cancel_futures=True)
            for path in self.written:
                _temporary_of(path).unlink(missing_ok=True)

    def add(self, path: Path, write: Callable[[Path], None]) -> None:
        """Calls `write` in a thread with the temporary path of a file; no path may come twice."""

        def write_synced() -> None:
            temporary = _temporary_of(path)
            temporary.unlink(missing_ok=True)
            with writing(path):
                write(temporary)
                sync(temporary)

        path.parent.mkdir(parents=True, exist_ok=True)
        self.written[path] = self.pool.submit(write_synced)
        if len(self.written) >= GROUP:
            self.publish()

    def publish(self) -> None:
        """Renames the files of the group in their order, or none if writing one of them failed."""
        for future in self.written.values():
            future.result()
        for path in self.written:
            with writing(path):
                _temporary_of(path).replace(path)
        for folder in dict.fromkeys(path.parent for path in self.written):
            with writing(folder):
                sync(folder)
        self.written.clear()


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


@contextmanager
def atomic_siblings(path: Path) -> Iterator[Path]:
    """Yields a path in a temporary folder; on success all files there move to that of `path`.

    The file of its own name comes last: once it exists, so do the others. If an error occurs, none
    of them moves.
    """
    temporary = _temporary_of(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with writing(path):
            yield temporary / path.name
            files = sorted(temporary.iterdir(), key=lambda file: (file.name == path.name, file))
            for file in files:
                sync(file)
            for file in files:
                file.replace(path.parent / file.name)
            sync(path.parent)
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise
        raise removed(path.parent) from error
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


def read_json(path: Location, largest: int | None = None) -> Any:
    """Reads a JSON file that anyone may have written; `ValueError` if it has more bytes."""
    largest = largest or LARGEST_JSON
    with reading(path):
        # A pipe might never end.
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        with path.open("rb") as file:
            content = file.read(largest + 1)
    if len(content) > largest:
        msg = f"it has more than {largest} bytes"
        raise ValueError(msg)
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Parses JSON in UTF-8 with finite numbers; `ValueError` for anything else, or deep nesting."""
    found = from_json(content, allow_inf_nan=False)
    # The parser reads a number such as 1e999 as infinite.
    json.dumps(found, allow_nan=False)
    return found


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
    """Makes an output folder; `OutputError` if it is a file, read-only, or on the Hub."""
    if not isinstance(folder, Path) and folder.protocol == "hf":
        raise OutputError(
            problem=f"{folder} is on the Hub, where every file would be a commit.",
            fix="Choose a folder on a disk, then publish it with 'sia-gen push-to-hub'.",
        )
    fix = "Choose another folder with --out."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot make the output folder {folder}: {error.strerror or error}."
        raise OutputError(problem=problem, fix=fix) from error
    if isinstance(folder, Path) and not os.access(folder, os.W_OK):
        raise OutputError(problem=f"the output folder {folder} is read-only.", fix=fix)


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Yields a pool of threads that drops the work not yet begun if an error occurs."""
    pool = ThreadPoolExecutor(THREADS)
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
