"""Where corpora lie: a folder, or a place that fsspec can reach, such as `s3://bucket/corpus`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from upath import UPath

from sia_gen.errors import OptionError

Location = Path | UPath


def location(text: str | Path) -> Location:
    """The folder or file at a path or URL; `file://` is a path like any other.

    Raises:
        OptionError: If nothing is installed that can reach the URL.
    """
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
    """How a place is called in what may be published: nothing in it is private to a machine.

    A path that is not relative is called by its last name, and a URL has no user or password.
    """
    if isinstance(place, Path):
        return place.name if place.is_absolute() else place.as_posix()
    return re.sub(r"(://)[^/@]*@", r"\1", str(place))


def read_range(file: Location, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to `end`; fewer if it ends before."""
    # By itself fsspec would read ahead by megabytes.
    opened = file.open("rb") if isinstance(file, Path) else file.open("rb", cache_type="none")
    with opened as stream:
        stream.seek(start)
        return stream.read(end - start)


def files_below(folder: Location, pattern: str) -> list[str]:
    """The paths below a folder, relative to it, that match a glob, sorted."""
    # The two kinds have these methods in common, but no common type.
    anywhere: Any = folder
    try:
        return sorted(path.relative_to(anywhere).as_posix() for path in anywhere.glob(pattern))
    except FileNotFoundError:
        # What some stores say of a folder that is not there; a disk finds nothing in it.
        return []


def shipped(name: str) -> Path:
    """The path of `recipes`, which stands at the top of a checkout, but inside a wheel."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.exists() else package.parent / name
