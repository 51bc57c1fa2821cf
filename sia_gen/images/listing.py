"""Lists the images of a data set and decides, from a seed, which are used for what."""

from __future__ import annotations

import csv
import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sia_gen.errors import ImageError
from sia_gen.recipe import Recipe
from sia_gen.settings import FolderLayout, TableLayout

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class CategoryImages:
    """The images of one category, each list disjoint from the others.

    Attributes:
        fit: Normal images to learn from.
        validation: Normal images that choose the best weights and the threshold.
        test_normal: Normal images for the evaluation.
        test_anomalous: Anomalous images for the evaluation.
    """

    fit: list[Path]
    validation: list[Path]
    test_normal: list[Path]
    test_anomalous: list[Path]


def data_root(recipe: Recipe, given: Path | None) -> Path:
    """The folder of the images: the given one, or that of the package the recipe names.

    Raises:
        ImageError: If there is neither.
    """
    if given is not None:
        if not given.is_dir():
            raise ImageError(
                problem=f"there is no image folder {given}.", fix="Check the path of --data."
            )
        return given
    if recipe.data.package is None:
        raise ImageError(
            problem=f"recipe '{recipe.name}' does not say where its images are.",
            fix=f"Give their folder with --data; they come from {recipe.source}.",
        )
    return package_folder(recipe.data.package)


def package_folder(package: str) -> Path:
    """The folder of an installed Python package.

    Raises:
        ImageError: If it is not installed.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):
        # Of a package inside another one that is not there, or of an empty name.
        spec = None
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise ImageError(
            problem=f"the package '{name}' is not installed.",
            fix=f"Install it with 'pip install {name}', or give a folder.",
        )
    return Path(spec.submodule_search_locations[0])


def list_images(recipe: Recipe, root: Path, category: str) -> CategoryImages:
    """The images of a category, split by the recipe's seed.

    Raises:
        ImageError: If there are too few normal images, or the layout does not fit the folder.
    """
    layout = recipe.data.images
    normal, test_normal, test_anomalous = (
        read_table(layout, root, category)
        if isinstance(layout, TableLayout)
        else read_folders(layout, root, category)
    )
    normal = shuffled(normal, recipe.data.split_seed)
    if test_normal is None:
        cut = int(recipe.data.fit_fraction * len(normal))
        normal, test_normal = normal[:cut], normal[cut:]
    held_out = max(1, round(recipe.data.validation_fraction * len(normal)))
    if len(normal) - held_out < 1:
        raise ImageError(
            problem=f"category '{category}' has only {len(normal)} normal images to fit in {root}.",
            fix="Add images, or check the recipe's 'data' section.",
        )
    return CategoryImages(normal[held_out:], normal[:held_out], test_normal, test_anomalous)


def read_folders(
    layout: FolderLayout, root: Path, category: str
) -> tuple[list[Path], list[Path] | None, list[Path]]:
    """Normal, test normal (None if there is no such split) and test anomalous images."""

    def found(pattern: str) -> list[Path]:
        matches = root.glob(pattern.format(category=category))
        return sorted(path for path in matches if path.suffix.lower() in EXTENSIONS)

    normal = found(layout.normal)
    if not normal:
        raise ImageError(
            problem=f"no images at {root / layout.normal.format(category=category)}.",
            fix="Check --data and the recipe's 'data.images'; "
            f"images end in {', '.join(sorted(EXTENSIONS))}.",
        )
    test_normal = found(layout.test_normal) if layout.test_normal else None
    seen = {*normal, *(test_normal or [])}
    anomalous = found(layout.test_anomalous) if layout.test_anomalous else []
    return normal, test_normal, [path for path in anomalous if path not in seen]


def read_table(
    layout: TableLayout, root: Path, category: str
) -> tuple[list[Path], None, list[Path]]:
    """Normal, test normal (always None) and anomalous images of a table of labels."""
    table = root / layout.table
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(
            problem=f"cannot read the table of labels {table}: {reason}.",
            fix="Check --data: it is the folder that contains it.",
        ) from error
    rows = [read_row(layout, table, number, line) for number, line in enumerate(lines, 1)]
    chosen = [row for row in rows if row[layout.category] == category]

    def labelled(value: str) -> list[Path]:
        return [table.parent / row[layout.image] for row in chosen if row[layout.label] == value]

    return labelled(layout.normal), None, labelled(layout.anomalous)


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


def shuffled(paths: Sequence[Path], seed: int) -> list[Path]:
    """The paths in an order that depends on the seed and their number alone."""
    order = list(paths)
    random.Random(seed).shuffle(order)
    return order
