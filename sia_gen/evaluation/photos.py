"""The photographs to score among files and in folders, and names for what is written about them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import NamedTuple, Self

from sia_gen.errors import ImageError
from sia_gen.images.places import photographs_below
from sia_gen.io.files import shortened_stem


class Photo(NamedTuple):
    """The file of a photograph, as it was found."""

    path: Path
    name: str  # a relative path that ends in .png, of the files about it
    modified_ns: int  # when it was changed, nanoseconds since 1970; 0 if it is gone
    bytes: int

    @classmethod
    def of(cls, path: Path, name: str) -> Self:
        """Looks at a file."""
        with suppress(OSError):
            found = path.stat()
            return cls(path, name, found.st_mtime_ns, found.st_size)
        return cls(path, name, 0, 0)

    @property
    def text(self) -> str:
        """Its path as text."""
        return as_text(self.path)


def as_text(path: Path) -> str:
    """Returns a path as text, though the bytes of a file's name need not be any."""
    return os.fsencode(path).decode(errors="backslashreplace")


def image_files(
    given: Sequence[Path], names: Mapping[str, str] | None = None, *, may_be_empty: bool = False
) -> dict[str, Path]:
    """Returns the images among files and in folders, by unique names for the files about them.

    Args:
        given: The files and folders.
        names: Names that images have already, by their paths as text.
        may_be_empty: Whether there may be none in a folder.

    Raises:
        ImageError: If there are none.
    """
    known, files = names or {}, dict[str, Path]()
    alike: Counter[PurePath] = Counter()
    found = {
        (path, path.relative_to(place) if place != path else Path(path.name)): None
        for place, path in _images_at(given, may_be_empty=may_be_empty)
    }
    # A folder may be called like a picture of a photograph beside it.
    folders = {parent.as_posix() for _, name in found for parent in name.parents}
    taken = {*known.values(), *folders}
    for path, name in found:
        picture = free = name.with_name(f"{shortened_stem(name.stem)}.png")
        before = known.get(as_text(path))
        while before is None and free.as_posix() in taken:
            alike[picture] += 1
            free = picture.with_stem(f"{picture.stem}-{alike[picture] + 1}")
        taken.add(before or free.as_posix())
        files[before or free.as_posix()] = path
    return files


def _images_at(given: Sequence[Path], *, may_be_empty: bool) -> Iterator[tuple[Path, Path]]:
    """Yields each file or folder with each of its images."""
    for place in given:
        folder = place.is_dir()
        # Masks and the pictures that were written about them earlier are not among them.
        inside = photographs_below(place)[0] if folder else [place]
        if not place.exists() or not (inside or may_be_empty):
            model = (place / "model.safetensors").is_file()
            raise ImageError(
                problem=f"there are no images at {place}.",
                fix="That is a model: give it first, and then photographs."
                if model
                else "Check the path; it may be a file or a folder of images.",
            )
        yield from ((place, path) for path in inside)
