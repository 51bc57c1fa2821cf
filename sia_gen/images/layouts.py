"""Finds images below a data root by the layouts of a recipe: sorted into folders, or in a table."""

import csv
import glob
import hashlib
import os
import re
import sys
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from operator import attrgetter
from pathlib import Path

from sia_gen.config.data import Data, FolderLayout, Layout, TableLayout
from sia_gen.errors import ImageError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
LAST_CHARACTER = chr(sys.maxunicode)
# What normal images have in place of a defect.
GOOD = "good"

Row = dict[str, str]


@dataclass(frozen=True)
class TestImage:
    """A test image, its name in published files (see `name_below`), its defect and ground truth."""

    # Its name makes pytest look for tests in it.
    __test__ = False

    path: Path
    name: str
    defect: str
    mask: Path | None = None

    @property
    def label(self) -> int:
        """1 if the image is anomalous, else 0."""
        return int(self.defect != GOOD)


# Normal images, normal test images (None without a split) and anomalous test images.
FoundImages = tuple[list[Path], list[Path] | None, list[TestImage]]


def layouts_of(data: Data) -> list[Layout]:
    """Returns all layouts that the images may have, in the order in which they are tried."""
    return [data.images, *data.alternatives]


def normal_place(layout: Layout, name: str) -> str:
    """Returns where a layout expects the normal images of a category, relative to the root."""
    if isinstance(layout, TableLayout):
        return layout.table
    return layout.normal.format(category=name)


def layout_fits(layout: Layout, root: Path, name: str) -> bool:
    """Whether there are images of a category in this layout; `name` is its name in the data set."""
    if isinstance(layout, FolderLayout):
        found = root.glob(_filled(layout.normal, {"category": name}))
        return any(is_image(path) for path in found)
    if not (root / layout.table).is_file():
        return False
    return any(row[layout.category] == name for row in _read_rows(layout, root))


def read_layout(layout: Layout, root: Path, name: str) -> FoundImages:
    """Finds the images of a category; `name` is its name in the data set."""
    if isinstance(layout, TableLayout):
        return _read_table(layout, root, name)
    return _read_folders(layout, root, name)


def is_image(path: Path) -> bool:
    """Whether a file has the extension of an image."""
    return path.suffix.lower() in EXTENSIONS


def images_matching(root: Path, pattern: str, **names: str) -> list[Path]:
    """Returns the images below the root that match a glob with some names in it, sorted."""
    return sorted(path for path in root.glob(_filled(pattern, names)) if is_image(path))


def _filled(pattern: str, names: Mapping[str, str]) -> str:
    return pattern.format(**{key: glob.escape(value) for key, value in names.items()})


def name_below(root: Path, path: Path) -> str:
    """Returns the name that identifies an image in published files: its path below the data root.

    A table may list files outside the root. Their names are the file name and a hash of the folder,
    which is unique but reveals nothing about the machine.
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


def _read_folders(layout: FolderLayout, root: Path, name: str) -> FoundImages:
    def images(pattern: str | None) -> list[Path]:
        return [] if pattern is None else images_matching(root, pattern, category=name)

    normal = images(layout.normal)
    if not normal:
        raise ImageError(
            problem=f"no images at {root / normal_place(layout, name)}.",
            fix="Check --data and the recipe's 'data.images'; "
            f"images end in {', '.join(sorted(EXTENSIONS))}.",
        )
    test_normal = images(layout.test_normal) if layout.test_normal else None
    known = {*normal, *(test_normal or [])}
    masks = _MaskFolders(root, layout.mask, name)
    anomalous = [
        TestImage(path, name_below(root, path), path.parent.name, masks.find(path))
        for path in images(layout.test_anomalous)
        if path not in known
    ]
    return normal, test_normal, anomalous


class _MaskFolders:
    """The masks of a category; each folder is listed only once, however many masks it has."""

    def __init__(self, root: Path, pattern: str | None, category: str) -> None:
        self.root, self.category = root, category
        self.folder, slash, self.name = (pattern or "").rpartition("/")
        self.folder += slash
        self.listed: dict[str, list[Path]] = {}

    def find(self, image: Path) -> Path | None:
        """Returns the mask of an image; ImageError if there are several."""
        names = {"category": self.category, "defect": image.parent.name, "stem": image.stem}
        pattern = _filled(self.name, names)
        if not pattern:
            return None
        folder = self.folder.format(**names)
        if folder not in self.listed:
            inside = images_matching(self.root, f"{self.folder}*", **names)
            self.listed[folder] = sorted(inside, key=attrgetter("name"))
        masks = self.listed[folder]
        prefix = re.split(r"[*?[]", pattern, maxsplit=1)[0]
        start = bisect_left(masks, prefix, key=attrgetter("name"))
        end = bisect_left(masks, prefix + LAST_CHARACTER, key=attrgetter("name"))
        found = sorted(path for path in masks[start:end] if fnmatch(path.name, pattern))
        if len(found) > 1:
            raise ImageError(
                problem=f"{image} has more than one mask: {found[0]} and {found[1]}.",
                fix="Remove one, or make the recipe's 'data.images.mask' more precise.",
            )
        return found[0] if found else None


def _read_table(layout: TableLayout, root: Path, name: str) -> FoundImages:
    folder = (root / layout.table).parent if layout.folder is None else root / layout.folder

    def file(path: str) -> Path:
        # Tables from Windows separate folders by backslashes.
        as_written = folder / path
        if "\\" not in path or os.path.exists(as_written):
            return as_written
        return folder / path.replace("\\", "/")

    train, test_normal, test_anomalous = list[Path](), list[Path](), list[TestImage]()
    for row in _read_rows(layout, root):
        if row[layout.category] != name:
            continue
        path, label = file(row[layout.image]), row[layout.label]
        split = row[layout.split] if layout.split else None
        if label == layout.normal and split in (None, layout.train):
            train.append(path)
        if label == layout.normal and split in (None, layout.test):
            test_normal.append(path)
        if label == layout.anomalous and split in (None, layout.test):
            mask = row[layout.mask] if layout.mask else ""
            masked = file(mask) if mask else None
            test_anomalous.append(TestImage(path, name_below(root, path), label, masked))
    return train, test_normal if layout.split else None, test_anomalous


def _read_rows(layout: TableLayout, root: Path) -> list[Row]:
    """Returns the values of each line by column."""
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
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        values = next(csv.reader([line])) if "," in line else line.split()
        if len(values) != len(layout.columns):
            raise ImageError(
                problem=f"line {number} of {table} has {len(values)} values for "
                f"{len(layout.columns)} columns.",
                fix="Correct the line, or the recipe's 'data.images.columns'.",
            )
        rows.append(dict(zip(layout.columns, values, strict=True)))
    if not layout.header:
        return rows
    if rows and list(rows[0].values()) != layout.columns:
        raise ImageError(
            problem=f"the columns of {table} are {', '.join(rows[0].values())}; "
            f"expected {', '.join(layout.columns)}.",
            fix="Correct its first line, or the recipe's 'data.images.columns'.",
        )
    return rows[1:]
