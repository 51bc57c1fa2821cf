"""Finds the ground-truth mask of an image by the patterns of a recipe."""

import re
import sys
from bisect import bisect_left
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path, PurePath

from sia_gen.errors import ImageError
from sia_gen.images.files import ANY_DEPTH, filled, is_image

LAST_CHARACTER = chr(sys.maxunicode)


def defect_of(root: Path, image: Path, pattern: str) -> tuple[str, str]:
    """Returns the defect of an image that a pattern matched, and its path below that folder.

    The folder of the defect is the one before `**` in the pattern, else that of the image. The path
    has no extension.
    """
    before, anywhere, _ = pattern.partition(ANY_DEPTH)
    parts = image.relative_to(root).parts
    depth = len(PurePath(before).parts) if anywhere and before else len(parts) - 1
    defect = parts[depth - 1] if depth else image.parent.name
    return defect, PurePath(*parts[depth:-1], image.stem).as_posix()


class MaskFinder:
    """The masks of a category; each folder is listed only once, however many masks it has."""

    def __init__(self, root: Path, patterns: Sequence[str], category: str) -> None:
        self.root, self.patterns, self.category = root, patterns, category
        self.listed: dict[str, list[Path]] = {}

    def find(self, image: Path, defect: str, path: str) -> Path | None:
        """Returns the mask of an image, or the folder of its masks; see `find_by_pattern`."""
        found = self.find_by_pattern(image, defect, path)
        return found[0] if found else None

    def find_by_pattern(self, image: Path, defect: str, path: str) -> tuple[Path, str] | None:
        """Returns what the first pattern that finds anything finds, and the pattern.

        `defect` and `path` are those of `defect_of`; `ImageError` if a pattern finds several files.
        """
        # The root itself stands for the folder around it.
        around = image.parent.relative_to(self.root).parent
        names = {
            "category": self.category,
            "defect": defect,
            "stem": image.stem,
            "path": path,
            "folder": image.parent.relative_to(self.root).as_posix(),
            "parent": around.as_posix(),
        }
        for pattern in self.patterns:
            found = self._matching(filled(pattern, names))
            if len(found) > 1:
                raise ImageError(
                    problem=f"{image} has more than one mask: {found[0]} and {found[1]}.",
                    fix="Remove one, or make the recipe's 'data.images.mask' more precise.",
                )
            if found:
                return found[0], pattern
        return None

    def other_file(self, images: Collection[Path]) -> Path | None:
        """Returns a file that lies where masks were looked for, and is none of these images."""
        listed = (path for paths in self.listed.values() for path in paths)
        return next((path for path in listed if is_image(path) and path not in images), None)

    def _matching(self, pattern: str) -> list[Path]:
        folder, slash, name = pattern.rpartition("/")
        if folder not in self.listed:
            inside = self.root.glob(f"{folder}{slash}*")
            masks = [path for path in inside if is_image(path) or path.is_dir()]
            self.listed[folder] = sorted(masks, key=attrgetter("name"))
        masks = self.listed[folder]
        prefix = re.split(r"[*?[]", name, maxsplit=1)[0]
        start = bisect_left(masks, prefix, key=attrgetter("name"))
        end = bisect_left(masks, prefix + LAST_CHARACTER, key=attrgetter("name"))
        return sorted(path for path in masks[start:end] if fnmatchcase(path.name, name))
