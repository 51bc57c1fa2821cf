"""Reads text files that list images, one per line."""

import csv
from collections.abc import Iterator
from pathlib import Path

from sia_gen.config.data import TableLayout
from sia_gen.errors import ImageError

Row = dict[str, str]
# What separates values in files that some spreadsheets save.
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def read_rows(layout: TableLayout, root: Path) -> list[Row]:
    """Returns the values of each line by column; lines without any are left out."""
    table = root / layout.table
    rows: list[Row] = []
    for number, line in _lines_of(table):
        values = _values_in(line, number, table)
        if len(values) != len(layout.columns):
            raise _wrong_line(layout, table, number, line, len(values))
        named = zip(layout.columns, values, strict=True)
        rows.append({column: value.strip() for column, value in named})
    if not layout.header:
        return rows
    if rows and list(rows[0].values()) != layout.columns:
        raise ImageError(
            problem=f"the columns of {table} are {', '.join(rows[0].values())}; "
            f"expected {', '.join(layout.columns)}.",
            fix="Correct its first line, or the recipe's 'data.images.columns'.",
        )
    return rows[1:]


def require_spelling(layout: TableLayout, root: Path, row: Row, category: str) -> None:
    """Raises `ImageError` if only capitals tell a value from one that decides what an image is."""
    known: list[tuple[str | None, tuple[str | None, ...]]] = [(layout.category, (category,))]
    if row[layout.category] == category:
        known.append((layout.label, (layout.normal, layout.anomalous)))
        known.append((layout.split, (layout.train, layout.test)))
    for column, names in known:
        value = row[column] if column else ""
        alike = [name for name in names if name and name.casefold() == value.casefold()]
        if alike and value not in alike:
            raise ImageError(
                problem=f"{root / layout.table} has '{value}' in the column '{column}', but the "
                f"recipe '{alike[0]}'.",
                fix="Write both alike.",
            )


def _lines_of(table: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a table that are not blank, with their numbers."""
    try:
        content = table.read_bytes()
    except OSError as error:
        raise ImageError(
            problem=f"cannot read the table of labels {table}: {error.strerror}.",
            fix="Check --data: it is the folder that contains it.",
        ) from error
    text, reason = "", "it is UTF-16" if b"\0" in content else None
    try:
        # Spreadsheets begin a file with a byte order mark.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].count(b"\n")
        reason = reason or f"its line {before + 1} is not UTF-8, but perhaps Latin-1"
    if reason is not None:
        raise ImageError(
            problem=f"cannot read the table of labels {table}: {reason}.",
            fix="Save it as UTF-8; spreadsheets call that 'CSV UTF-8'.",
        )
    for number, line in enumerate(text.splitlines(), 1):
        # Spreadsheets write only commas for a row without values.
        if line.strip(" ,;\t"):
            yield number, line


def _values_in(line: str, number: int, table: Path) -> list[str]:
    if "," not in line:
        return line.split()
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise ImageError(
            problem=f"cannot read line {number} of {table}: {error}.",
            fix="Correct the line, or leave out columns of long values.",
        ) from error


def _wrong_line(layout: TableLayout, table: Path, number: int, line: str, count: int) -> ImageError:
    columns = len(layout.columns)
    for separator, name in OTHER_SEPARATORS.items():
        if line.count(separator) == columns - 1 > 0:
            return ImageError(
                problem=f"line {number} of {table} separates its values by {name}.",
                fix="Save the table with commas between the values.",
            )
    return ImageError(
        problem=f"line {number} of {table} has {count} values for {columns} columns.",
        fix="Correct the line, or the recipe's 'data.images.columns'.",
    )
