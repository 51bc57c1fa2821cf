"""Places of files: folders, and URLs that fsspec can reach, such as `s3://bucket/corpus`."""

import re
from pathlib import Path
from typing import Any

from upath import UPath

from sia_gen.errors import OptionError

Location = Path | UPath


def location(text: str | Path) -> Location:
    """Returns the folder or file at a path or URL; `file://` becomes an ordinary path.

    Raises:
        OptionError: If no installed package can reach the URL.
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
    """Returns a name without private parts: the last part of an absolute path, a URL without user.

    A relative path is its own name.
    """
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
