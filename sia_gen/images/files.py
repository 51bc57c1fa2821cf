"""Which files are images, and where they lie below a folder.

Names that begin with a dot, such as those of `.ipynb_checkpoints`, are hidden, and so are folders
that systems make: no file or folder of such a name is looked at, unless a pattern names it. Links
to folders are followed, but none that leads back, and the output folders of sia-gen are passed
over.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.io.locks import LOCKS

# Names of formats that Pillow may open, with their extensions. None of them runs programs.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
EXTENSIONS = {extension for extensions in FORMATS.values() for extension in extensions}
# The folders of pictures in an output of `predict`. Photographs may lie in the same folder, so they
# are not called as folders of masks are.
HEATMAPS, MASKS, MAPS = "heatmaps", "anomaly_masks", "anomaly_maps"
# The folder of the pictures of its page.
PAGE_PICTURES = "threshold"
ANY_DEPTH = "**/"
# Folders of operating systems and network storage, with copies of pictures or what was deleted.
SYSTEM_FOLDERS = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found"}
SYSTEM_FOLDERS |= {"system volume information", "thumbnails", "thumbs"}
# Files that they leave there.
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def is_hidden(name: str) -> bool:
    """Whether folders and files of this name are not looked at."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_image(path: Path) -> bool:
    """Whether a file has the extension of an image and is not hidden."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def images_below(folder: Path) -> list[Path]:
    """Returns the images anywhere below a folder, sorted; none if there is no such folder."""
    folders = folders_below(folder) if folder.is_dir() else ()
    return in_order(path for inside in folders for path in inside.iterdir() if is_image(path))


def images_matching(root: Path, pattern: str, **names: str) -> Iterator[Path]:
    """Yields the images below the root that match a glob with some names in it, in any order."""
    named, seen = set(pattern.split("/")), set[Path]()
    for path in _matching(root, filled(pattern, names)):
        if is_image(path) and path not in seen and not _hidden(root, path, named):
            seen.add(path)
            yield path


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorts paths as they compare, which takes long if they are many and compare themselves."""
    return sorted(paths, key=attrgetter("parts"))


def filled(pattern: str, names: Mapping[str, str]) -> str:
    """Puts names into a pattern, in which their special characters stand for themselves."""
    return pattern.format(**{key: glob.escape(value) for key, value in names.items()})


def literal(name: str) -> str:
    """Returns a pattern that only this name matches."""
    return glob.escape(name).replace("{", "{{").replace("}", "}}")


def folders_below(folder: Path) -> Iterator[Path]:
    """Yields a folder and all folders in it, each once; hidden folders and outputs are left out."""
    seen = set[str]()
    # A folder that is there twice has the name that is no link.
    waiting, links = [folder], list[Path]()
    while waiting or links:
        inside = waiting.pop() if waiting else links.pop()
        real = os.path.realpath(inside)
        if real in seen or (seen and is_output(inside)):
            continue
        seen.add(real)
        yield inside
        for path in _folders_in(inside):
            if not path.is_symlink():
                waiting.append(path)
            elif not _is_around(os.path.realpath(path), seen):
                links.append(path)


def is_output(folder: Path) -> bool:
    """Whether a command of sia-gen wrote a folder."""
    pictures = (
        folder.name in (HEATMAPS, MASKS, MAPS, PAGE_PICTURES) and (folder.parent / LOCKS).is_dir()
    )
    return pictures or (folder / LOCKS).is_dir()


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            # A link may lead nowhere, or to itself.
            names = [
                entry.name
                for entry in entries
                if (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
            ]
    except OSError as error:
        raise ImageError(
            problem=f"cannot list the folder {folder}: {error.strerror}.",
            fix="Change its permissions, or give its name a leading dot to leave it out.",
        ) from error
    return [folder / name for name in sorted(names) if not is_hidden(name)]


def _is_around(real: str, folders: Iterable[str]) -> bool:
    """Whether a folder contains others; a link to it would lead to images of other purposes."""
    return any(one.startswith(os.path.join(real, "")) for one in folders)


def _matching(root: Path, pattern: str) -> Iterable[Path]:
    """Finds what matches a glob; `**` follows links, which it does not in every Python."""
    first, *rest = pattern.split(ANY_DEPTH)
    found: Iterable[Path] = root.glob(first) if first else [root]
    for part in rest:
        folders = [path for path in found if path.is_dir()]
        below = [inside for folder in folders for inside in folders_below(folder)]
        found = [path for inside in below for path in (inside.glob(part) if part else [inside])]
    return found


def _hidden(root: Path, path: Path, named: set[str]) -> bool:
    parts = path.parts[len(root.parts) :]
    return any(is_hidden(part) and part != os.pardir and part not in named for part in parts)
