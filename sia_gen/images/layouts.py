"""Reads the arrangements of images that recipes describe: sorted into folders, or in a table."""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import re
from bisect import bisect_left
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path

from sia_gen.config.data import Data, FolderLayout, Layout, TableLayout
from sia_gen.errors import ImageError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class AnomalousImage:
    """An anomalous image of the test.

    Attributes:
        path: The image.
        defect: What its defect is called.
        mask: Its ground truth; None if there is none.
    """

    path: Path
    defect: str
    mask: Path | None


@dataclass(frozen=True)
class FoundImages:
    """The images of a category as they are arranged; `test_normal` is None without a split."""

    normal: list[Path]
    test_normal: list[Path] | None
    test_anomalous: list[AnomalousImage]


def layouts_of(data: Data) -> list[Layout]:
    """All ways in which the images may be arranged, in the order they are tried."""
    return [data.images, *data.alternatives]


def place_of(layout: Layout, name: str) -> str:
    """Where the layout has the normal images of a category, below the root."""
    if isinstance(layout, TableLayout):
        return layout.table
    return layout.normal.format(category=name)


def fits(layout: Layout, root: Path, name: str) -> bool:
    """Whether the layout has images of a category below the root; its name as it stands there."""
    if isinstance(layout, FolderLayout):
        pattern = layout.normal.format(category=glob.escape(name))
        return any(is_image(path) for path in root.glob(pattern))
    if not (root / layout.table).is_file():
        return False
    return any(row[layout.category] == name for row in read_rows(layout, root))


def read_layout(layout: Layout, root: Path, name: str) -> FoundImages:
    """The images of a category; its name as it stands in the data set.

    Raises:
        ImageError: If there are no normal images, a table cannot be read, or a mask is ambiguous.
    """
    if isinstance(layout, TableLayout):
        return read_table(layout, root, name)
    return read_folders(layout, root, name)


def is_image(path: Path) -> bool:
    """Whether a file has the name of an image."""
    return path.suffix.lower() in EXTENSIONS


def name_below(root: Path, path: Path) -> str:
    """What an image is called in what may be published: its path below the data root.

    A table may name files anywhere else. Those are called by the name of the file and a hash of
    where it lies, which tells them apart and says nothing of the machine.
    """
    try:
        relative = Path(os.path.relpath(path, root))
    except ValueError:
        # On another drive of Windows.
        relative = Path(os.pardir, path)
    if relative.parts[:1] != (os.pardir,):
        return relative.as_posix()
    place = hashlib.sha256(os.fsencode(relative)).hexdigest()[:12]
    return f"outside/{place}/{path.name}"


def read_folders(layout: FolderLayout, root: Path, name: str) -> FoundImages:
    """The images of a category that are sorted into folders."""

    def found(pattern: str | None) -> list[Path]:
        return [] if pattern is None else images_matching(root, pattern, category=name)

    def mask(path: Path) -> Path | None:
        found = masks.of(path)
        if len(found) > 1:
            raise ImageError(
                problem=f"{path} has more than one mask: {found[0]} and {found[1]}.",
                fix="Remove one, or make the recipe's 'data.images.mask' more precise.",
            )
        return found[0] if found else None

    masks = MaskFiles(root, layout.mask, name)
    normal = found(layout.normal)
    if not normal:
        raise ImageError(
            problem=f"no images at {root / place_of(layout, name)}.",
            fix="Check --data and the recipe's 'data.images'; "
            f"images end in {', '.join(sorted(EXTENSIONS))}.",
        )
    test_normal = found(layout.test_normal) if layout.test_normal else None
    seen = {*normal, *(test_normal or [])}
    anomalous = [path for path in found(layout.test_anomalous) if path not in seen]
    return FoundImages(
        normal,
        test_normal,
        [AnomalousImage(path, path.parent.name, mask(path)) for path in anomalous],
    )


def images_matching(root: Path, pattern: str, **names: str) -> list[Path]:
    """The images that a glob with these names in it finds, sorted."""
    return sorted(path for path in root.glob(filled(pattern, **names)) if is_image(path))


def filled(pattern: str, **names: str) -> str:
    """A glob with names in it, taken literally."""
    return pattern.format(**{key: glob.escape(value) for key, value in names.items()})


class MaskFiles:
    """The masks of a category; each folder of them is listed once, however many there are."""

    def __init__(self, root: Path, pattern: str | None, category: str) -> None:
        self.root, self.category = root, category
        self.folder, slash, self.name = (pattern or "").rpartition("/")
        self.folder += slash
        self.listed: dict[str, list[Path]] = {}

    def of(self, image: Path) -> list[Path]:
        """The masks of an image, sorted."""
        names = {"category": self.category, "defect": image.parent.name, "stem": image.stem}
        pattern = filled(self.name, **names)
        if not pattern:
            return []
        folder = self.folder.format(**names)
        if folder not in self.listed:
            inside = images_matching(self.root, f"{self.folder}*", **names)
            self.listed[folder] = sorted(inside, key=name_of)
        near = self.listed[folder]
        beginning = re.split(r"[*?[]", pattern, maxsplit=1)[0]
        places = range(bisect_left(near, beginning, key=name_of), len(near))
        some = takewhile(
            lambda path: path.name.startswith(beginning), (near[place] for place in places)
        )
        return sorted(path for path in some if fnmatch(path.name, pattern))


def name_of(path: Path) -> str:
    """The name of a file, to sort by."""
    return path.name


def read_table(layout: TableLayout, root: Path, name: str) -> FoundImages:
    """The images of a category that are listed in a table."""
    folder = (root / layout.table).parent if layout.folder is None else root / layout.folder
    rows = [row for row in read_rows(layout, root) if row[layout.category] == name]

    def labelled(value: str, split: str) -> list[dict[str, str]]:
        return [
            row
            for row in rows
            if row[layout.label] == value and (layout.split is None or row[layout.split] == split)
        ]

    def paths(split: str) -> list[Path]:
        return [listed_file(folder, row[layout.image]) for row in labelled(layout.normal, split)]

    def mask(row: dict[str, str]) -> Path | None:
        entry = row[layout.mask] if layout.mask else ""
        return listed_file(folder, entry) if entry else None

    return FoundImages(
        paths(layout.train),
        paths(layout.test) if layout.split else None,
        [
            AnomalousImage(listed_file(folder, row[layout.image]), row[layout.label], mask(row))
            for row in labelled(layout.anomalous, layout.test)
        ],
    )


def listed_file(folder: Path, entry: str) -> Path:
    """The file that a table names; tables of Windows have backslashes between folders."""
    path = folder / entry
    return path if "\\" not in entry or os.path.exists(path) else folder / entry.replace("\\", "/")


def read_rows(layout: TableLayout, root: Path) -> list[dict[str, str]]:
    """The lines of a table, each as its values by column."""
    table = root / layout.table
    try:
        # Spreadsheets begin a file with a byte order mark.
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(
            problem=f"cannot read the table of labels {table}: {reason}.",
            fix="Check --data: it is the folder that contains it.",
        ) from error
    rows = [read_row(layout, table, number, line) for number, line in enumerate(lines, 1)]
    if not layout.header:
        return rows
    if rows and list(rows[0].values()) != layout.columns:
        raise ImageError(
            problem=f"the columns of {table} are {', '.join(rows[0].values())}; "
            f"expected {', '.join(layout.columns)}.",
            fix="Mend its first line, or the recipe's 'data.images.columns'.",
        )
    return rows[1:]


def read_row(layout: TableLayout, table: Path, number: int, line: str) -> dict[str, str]:
    """The values of a line by column; columns are separated by commas or blanks."""
    values = next(csv.reader([line])) if "," in line else line.split()
    if len(values) != len(layout.columns):
        raise ImageError(
            problem=f"line {number} of {table} has {len(values)} values for "
            f"{len(layout.columns)} columns.",
            fix="Mend the line, or the recipe's 'data.images.columns'.",
        )
    return dict(zip(layout.columns, values, strict=True))
