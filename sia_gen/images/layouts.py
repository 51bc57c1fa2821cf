"""Finds images below a data root by the layouts of a recipe: sorted into folders, or in a table."""

import hashlib
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sia_gen.config.data import Data, FolderLayout, Layout, Patterns, TableLayout, patterns_in
from sia_gen.errors import ImageError
from sia_gen.images.files import EXTENSIONS, images_matching, in_order
from sia_gen.images.mask_files import MaskFinder, defect_of
from sia_gen.images.masks import read_marks
from sia_gen.images.tables import read_rows, require_spelling
from sia_gen.images.words import Role, role_of

# What normal images have in place of a defect.
GOOD = "good"
# The defect of images of which only their masks say that they are anomalous.
DEFECT = "defect"


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


class FoundImages(NamedTuple):
    """The images of a category; None for those that the data set does not set apart."""

    normal: list[Path]
    validation: list[Path] | None
    test_normal: list[Path] | None
    test_anomalous: list[TestImage]


def layouts_of(data: Data) -> list[Layout]:
    """Returns all layouts that the images may have, in the order in which they are tried."""
    return [data.images, *data.alternatives]


def normal_place(layout: Layout, name: str) -> str:
    """Returns where a layout expects the normal images of a category, relative to the root."""
    if isinstance(layout, TableLayout):
        return layout.table
    return " or ".join(one.format(category=name) for one in patterns_in(layout.normal))


def layout_fits(layout: Layout, root: Path, name: str) -> bool:
    """Whether there are images of a category in this layout; `name` is its name in the data set."""
    if isinstance(layout, FolderLayout):
        # One image is enough, however many there are.
        return any(
            not _is_excluded(root, path, layout.exclude)
            for pattern in patterns_in(layout.normal)
            for path in images_matching(root, pattern, category=name)
        )
    if not (root / layout.table).is_file():
        return False
    return any(row[layout.category] == name for row in read_rows(layout, root))


def read_layout(layout: Layout, root: Path, name: str) -> FoundImages:
    """Finds the images of a category; `name` is its name in the data set."""
    if isinstance(layout, TableLayout):
        return _read_table(layout, root, name)
    return _read_folders(layout, root, name)


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
    normal, validation, test_normal, anomalous = (
        images_of(root, patterns, name, layout.exclude)
        for patterns in (
            layout.normal,
            layout.validation,
            layout.test_normal,
            layout.test_anomalous,
        )
    )
    if not normal:
        raise ImageError(
            problem=f"no images at {root / normal_place(layout, name)}.",
            fix="Check --data and the recipe's 'data.images'; "
            f"images end in {', '.join(sorted(EXTENSIONS))}.",
        )
    finder = MaskFinder(root, patterns_in(layout.mask), name)
    by_mask = layout.labels == "masks"

    def test_of(path: Path, pattern: str) -> TestImage:
        defect, below = defect_of(root, path, pattern)
        mask = finder.find(path, defect, below)
        return TestImage(path, name_below(root, path), DEFECT if by_mask else defect, mask)

    known = normal | validation | test_normal
    if by_mask:
        tests = [test_of(*one) for one in (known | anomalous).items()]
        known = {test.path: "" for test in tests if test.mask is None or not _marks(test.mask)}
    tests = [test_of(*one) for one in anomalous.items() if one[0] not in known]
    if layout.mask is not None and tests and not any(test.mask for test in tests):
        _require_no_masks(finder, tests, {*known, *anomalous})
    if not known.keys() & normal:
        raise ImageError(
            problem=f"the masks of all images at {root / normal_place(layout, name)} mark "
            "something, so none is normal.",
            fix="Add normal images, or move the masks away if they do not mark defects.",
        )
    kept, held_out, tested = (
        [path for path in group if path in known] for group in (normal, validation, test_normal)
    )
    return FoundImages(
        kept,
        held_out if layout.validation is not None else None,
        tested if layout.test_normal is not None else None,
        tests,
    )


def images_of(
    root: Path, patterns: Patterns | None, category: str, exclude: Patterns | None
) -> dict[Path, str]:
    """Returns the images of some patterns, sorted, each with the first pattern that matches it.

    Files and folders whose names match one of `exclude` are left out.
    """
    found: dict[Path, str] = {}
    for pattern in patterns_in(patterns):
        for path in images_matching(root, pattern, category=category):
            found.setdefault(path, pattern)
    kept = (path for path in found if not _is_excluded(root, path, exclude))
    return {path: found[path] for path in in_order(kept)}


def _is_excluded(root: Path, path: Path, exclude: Patterns | None) -> bool:
    names = patterns_in(exclude)
    parts = path.relative_to(root).parts if names else ()
    return any(fnmatchcase(part, name) for part in parts for name in names)


def _marks(mask: Path) -> bool:
    """Whether a mask marks anything; it is read once, as long as it is not changed."""
    return _marks_as_of(mask, mask.stat().st_mtime_ns)


@cache
def _marks_as_of(mask: Path, _: int) -> bool:
    return bool(read_marks(mask).any())


def _require_no_masks(finder: MaskFinder, tests: list[TestImage], images: set[Path]) -> None:
    """Raises `ImageError` if there are files where masks should be, although none is found."""
    other = finder.other_file(images)
    if other is not None:
        raise ImageError(
            problem=f"none of the masks fits an image: {other} is a mask, {tests[0].path} an image "
            "without one.",
            fix="Rename the masks as their images, e.g. "
            f"{other.with_stem(tests[0].path.stem).name}, or move their folder away.",
        )


def _read_table(layout: TableLayout, root: Path, name: str) -> FoundImages:
    folder = (root / layout.table).parent if layout.folder is None else root / layout.folder

    def file(path: str) -> Path:
        # Tables from Windows separate folders by backslashes.
        as_written = folder / path
        if "\\" not in path or os.path.exists(as_written):
            return as_written
        return folder / path.replace("\\", "/")

    train, test_normal, test_anomalous = list[Path](), list[Path](), list[TestImage]()
    for row in read_rows(layout, root):
        require_spelling(layout, root, row, name)
        if row[layout.category] != name:
            continue
        path, label = file(row[layout.image]), row[layout.label]
        split = row[layout.split] if layout.split else None
        if label == layout.normal and split in (None, layout.train):
            train.append(path)
        if label == layout.normal and split in (None, layout.test):
            test_normal.append(path)
        if _is_anomalous(layout, root, label) and split in (None, layout.test):
            mask = row[layout.mask] if layout.mask else ""
            masked = file(mask) if mask else None
            test_anomalous.append(TestImage(path, name_below(root, path), label, masked))
    return FoundImages(train, None, test_normal if layout.split else None, test_anomalous)


def _is_anomalous(layout: TableLayout, root: Path, label: str) -> bool:
    if layout.anomalous is not None:
        return label == layout.anomalous
    if label != layout.normal and (not label or role_of(label) is Role.GOOD):
        raise ImageError(
            problem=f"{root / layout.table} has an image with the label '{label}', but normal "
            f"images have '{layout.normal}'.",
            fix="Correct the label, or name the defects by 'data.images.anomalous'.",
        )
    return label != layout.normal
