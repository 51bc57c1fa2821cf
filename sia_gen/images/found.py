"""Counts what a recipe finds in a folder, and what it passes over."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sia_gen.config.data import TableLayout
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, one_line
from sia_gen.images.files import SYSTEM_FILES, folders_below, is_hidden, is_image, is_output
from sia_gen.images.layouts import layouts_of
from sia_gen.images.listing import CategoryImages, split_images
from sia_gen.images.places import MASK_ENDING
from sia_gen.images.words import Role, role_of

# What the kind of an image in a folder begins with.
INSIDE = "images in "
# The most folders and kinds of defects that are named.
MOST_FOLDERS, MOST_KINDS = 3, 20
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
# The kind of what is there twice.
COPIES = "duplicates"


@dataclass(frozen=True)
class Found:
    """How many images of a category serve which purpose, and how many files serve none.

    Attributes:
        defects: Number of anomalous images by defect.
        masks: Number of anomalous images that have a mask.
        passed_over: Number of files that are not used by kind, such as `.txt`.
    """

    fit: int
    validation: int
    test_normal: int
    test_anomalous: int
    masks: int
    defects: dict[str, int]
    passed_over: dict[str, int]

    def __str__(self) -> str:
        """Describes it in one line."""
        named = [f"{count} {name}" for name, count in self.defects.items()]
        more = f" and {len(named) - MOST_KINDS} more kinds" if len(named) > MOST_KINDS else ""
        kinds = f"{', '.join(named[:MOST_KINDS])}{more}"
        parts = [
            f"good images to learn from: {self.fit}, to validate: {self.validation}",
            f"to evaluate on: {self.test_normal} good, {self.test_anomalous} defective"
            f"{f' ({kinds})' if kinds else ''}, masks: {self.masks}",
        ]
        if self.passed_over:
            parts.append(f"passed over: {_listed(_together(self.passed_over))}")
        return "; ".join(parts)


def survey(recipe: Recipe, root: Path, category: str) -> Found:
    """Counts the images of a category without decoding any, and the other files beside them.

    Raises:
        ImageError: As `split_images` does.
    """
    images = split_images(recipe, root, category)
    tests = images.test_anomalous
    return Found(
        fit=len(images.fit),
        validation=len(images.validation),
        test_normal=len(images.test_normal),
        test_anomalous=len(tests),
        masks=sum(test.mask is not None for test in tests),
        defects=dict(sorted(Counter(test.defect for test in tests).items())),
        passed_over=_passed_over(recipe, root, images),
    )


def report(recipe: Recipe, root: Path, categories: Sequence[str]) -> None:
    """Says on stderr, once per run, what was found for some categories, and what seems wrong."""
    if os.environ.get("RANK", "0") != "0":
        return
    for category in categories:
        images = split_images(recipe, root, category)
        if not images.fit or not images.validation:
            # The error that follows says it.
            continue
        print(one_line(f"{category}: {survey(recipe, root, category)}."), file=sys.stderr)
        twice = used_twice(images)
        if twice:
            line = (
                f"warning: {_listed({'images to evaluate on': len(twice)})} also among those to "
                f"learn from, the first {twice[0][0]}; remove one of the two."
            )
            print(one_line(line), file=sys.stderr)
        for test, other in images.contradictions[:1]:
            line = (
                f"warning: {other} is among the good images to evaluate on, and the same as {test} "
                "among the defective ones; remove the wrong one."
            )
            print(one_line(line), file=sys.stderr)


def used_twice(images: CategoryImages) -> list[tuple[Path, Path]]:
    """Returns the test images of which there is a copy to learn from, each with that copy."""
    learned = {*images.fit, *images.validation}
    tests = [*images.test_normal, *(test.path for test in images.test_anomalous)]
    found = [(test, images.copies[test]) for test in tests if test in images.copies]
    return [(test, other) for test, other in found if other in learned]


def require_unseen(images: CategoryImages) -> None:
    """Raises `ImageError` if there is a copy of a test image to learn from."""
    twice = used_twice(images)
    if twice:
        test, other = twice[0]
        raise ImageError(
            problem=f"{_listed({'images to evaluate on': len(twice)})} also among those to learn "
            f"from: {test} is the same as {other}.",
            fix="Remove one of the two.",
        )


def _passed_over(recipe: Recipe, root: Path, images: CategoryImages) -> dict[str, int]:
    """Counts by kind what lies below the root, or beside the images of one of many categories."""
    used = {os.path.abspath(path) for path in _used(images)}
    tables = [one.table for one in layouts_of(recipe.data) if isinstance(one, TableLayout)]
    used |= {os.path.abspath(root / table) for table in tables}
    place = root
    if len(recipe.categories) > 1:
        place = Path(os.path.commonpath([path.parent.absolute() for path in _used(images)]))
    copies = {os.path.abspath(path) for path in images.duplicates}
    kinds = Counter(
        COPIES if os.path.abspath(path) in copies else _kind_of(path, place)
        for folder in folders_below(place)
        for path in folder.iterdir()
        if os.path.abspath(path) not in used and not _is_looked_into(path)
    )
    return dict(sorted(kinds.items()))


def _used(images: CategoryImages) -> Iterator[Path]:
    """Yields the images of a category and their masks."""
    yield from (*images.fit, *images.validation, *images.test_normal)
    for test in images.test_anomalous:
        yield test.path
        if test.mask is not None:
            yield from test.mask.iterdir() if test.mask.is_dir() else [test.mask]


def _is_looked_into(path: Path) -> bool:
    return path.is_dir() and not is_hidden(path.name) and not is_output(path)


def _kind_of(path: Path, place: Path) -> str:
    """Returns the kind of a file that is not used, or of a folder that is not looked into."""
    if is_hidden(path.name) or path.name.lower() in SYSTEM_FILES:
        return "hidden"
    if path.is_dir():
        return "outputs of sia-gen"
    if not is_image(path):
        extension = path.suffix.lower()
        return "videos" if extension in VIDEOS else extension or "files without an extension"
    folders = path.relative_to(place).parts[:-1]
    if Role.MASKS in map(role_of, folders) or MASK_ENDING.fullmatch(path.stem):
        return "masks"
    return f"{INSIDE}{'/'.join(folders)}" if folders else "images beside the folders"


def _together(passed_over: Mapping[str, int]) -> dict[str, int]:
    """Returns counts by kind in which many folders of images are one kind."""
    inside = [kind for kind in passed_over if kind.startswith(INSIDE)]
    if len(inside) <= MOST_FOLDERS:
        return dict(passed_over)
    first = inside[0].removeprefix(INSIDE)
    others = {kind: count for kind, count in passed_over.items() if kind not in inside}
    total = sum(passed_over[kind] for kind in inside)
    return others | {f"{INSIDE}{len(inside)} folders such as {first}": total}


def _listed(counts: Mapping[str, int]) -> str:
    """Lists counts, such as `1 hidden, 2 videos`."""
    return ", ".join(f"{count} {_in_number(name, count)}" for name, count in counts.items())


def _in_number(name: str, count: int) -> str:
    first, *others = name.split(" ")
    return " ".join([first.removesuffix("s") if count == 1 else first, *others])
