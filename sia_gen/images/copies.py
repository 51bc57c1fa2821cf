"""Finds images that are the same byte for byte, and reads as little of them as that takes."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from sia_gen.errors import ImageError
from sia_gen.images.opening import open_image
from sia_gen.io.files import sha256, worker_threads

# Bytes of two files that are compared before all of them are, and where, as shares of the size.
COMPARED, PLACES = 64, (0.25, 0.5, 0.75)
# Lists of files whose copies are remembered: those of all categories of a data set.
REMEMBERED = 64


class File(NamedTuple):
    """A file that is not empty, as it was at some time."""

    path: Path
    size: int  # bytes
    changed: int  # when, in nanoseconds


def find_copies(paths: Iterable[Path]) -> dict[Path, Path]:
    """Returns the images that are the same as an earlier one, each with the first of them.

    Whole files are only read if others have the same size and a few of the same bytes, and once
    unless they change. Files that cannot be opened as images are no copies: their reader names
    each of them.
    """
    by_size: dict[int, list[File]] = defaultdict(list)
    for file in filter(None, map(_file_at, dict.fromkeys(paths))):
        by_size[file.size].append(file)
    return dict(_copies_in(tuple(tuple(group) for group in by_size.values() if group[1:])))


def _file_at(path: Path) -> File | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        # Whoever reads the image says so, also if its name has a zero byte.
        return None
    regular = S_ISREG(found.st_mode) and found.st_size
    return File(path, found.st_size, found.st_mtime_ns) if regular else None


@lru_cache(REMEMBERED)
def _copies_in(groups: tuple[tuple[File, ...], ...]) -> dict[Path, Path]:
    """Returns the copies in groups of files of the same size."""
    with worker_threads() as pool:
        for describe in (_sample_of, _content_of):
            groups = tuple(same for group in groups for same in _alike(group, describe, pool))
    images = (group for group in groups if _is_image(group[0]))
    return {copy.path: first.path for first, *others in images for copy in others}


def _alike(
    group: tuple[File, ...], describe: Callable[[File], Hashable], pool: Executor
) -> list[tuple[File, ...]]:
    """Returns those files that are described alike, together; those without description are not."""
    found: dict[Hashable, list[File]] = defaultdict(list)
    for file, description in zip(group, pool.map(describe, group), strict=True):
        if description is not None:
            found[description].append(file)
    return [tuple(same) for same in found.values() if same[1:]]


def _is_image(file: File) -> bool:
    try:
        with open_image(file.path, "image", large=True):
            return True
    except ImageError:
        return False


def _sample_of(file: File) -> bytes | None:
    found = b""
    try:
        with file.path.open("rb", buffering=0) as stream:
            for place in PLACES:
                stream.seek(int(place * file.size))
                found += stream.read(COMPARED)
    except OSError:
        return None
    return found


def _content_of(file: File) -> str | None:
    try:
        return sha256(file.path)
    except OSError:
        return None
