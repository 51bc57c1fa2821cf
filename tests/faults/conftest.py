"""What is tried, how often, and the table of it.

`pytest tests/faults` tries a few cases of each kind and prints the table. `make faults`, which sets
SIA_GEN_FAULTS=all and adds `tests/checks`, tries them all and writes the table to docs/faults.md.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.cli.conftest import refuse, run
from tests.end_to_end.conftest import CommandLine
from tests.processes import ROOT

# Fixtures of those of the commands.
__all__ = ["refuse", "run"]
ALL = os.environ.get("SIA_GEN_FAULTS") == "all"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests that run in the background of a script would have their processes ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
SECTIONS = {
    "test_killed": "Kill",
    "test_interrupted": "Ctrl-C",
    "test_storage": "Storage",
    "test_images": "Images",
    "test_image_folders": "Images",
    "test_shards": "Shards",
    "test_manifests": "Shards",
    "test_recipes": "Recipes",
    "test_weights": "Weights",
    "test_numbers": "Numbers",
    "test_load": "Load",
    "test_network": "Supply chain",
    "test_supply_chain": "Supply chain",
}

Tried = Callable[..., None]
T, U = TypeVar("T"), TypeVar("U")


def times(few: int, many: int) -> int:
    """How often to try: a few times, or as often as it takes to believe in it."""
    return many if ALL else few


def pairs(ones: Iterable[T], others: Iterable[U]) -> list[tuple[T, U]]:
    """All pairs; for a quick look, each of the ones and of the others in one or more, by turns."""
    first, second = list(ones), list(others)
    if ALL:
        return list(itertools.product(first, second))
    count = range(max(len(first), len(second)))
    return [(first[i % len(first)], second[i % len(second)]) for i in count]


def few(cases: Iterable[T], number: int = 0) -> list[T]:
    """All cases; for a quick look one of them, another for each number."""
    every = list(cases)
    return every if ALL else [every[number % len(every)]]


@pytest.fixture
def tried(record_property: Callable[[str, Any], None], request: pytest.FixtureRequest) -> Tried:
    """Tells what a test tried: `tried(what, cases, outcome, mended)`.

    `mended` counts the failures that were found by trying and have been mended since. Tests that
    tell of the same thing share a line of the table.
    """
    section = SECTIONS[Path(request.path).stem]

    def tell(what: str, cases: int, outcome: str, mended: int = 0) -> None:
        record_property("fault", [section, what, cases, outcome, mended])

    return tell


@pytest.fixture
def line(tmp_path: Path, photographs: Path, recipe: Any) -> CommandLine:
    """A folder with a recipe in it, to run commands in."""
    return CommandLine(tmp_path, photographs, recipe)


def rows(reports: list[pytest.TestReport]) -> list[list[Any]]:
    """What all tests told, those of one thing together."""
    merged: dict[tuple[str, str], list[Any]] = {}
    for report in reports:
        for name, (section, what, cases, outcome, mended) in report.user_properties:
            if name != "fault":
                continue
            row = merged.setdefault((section, what), [section, what, 0, outcome, 0])
            row[2] += cases
            row[4] = max(row[4], mended)
    order = list(SECTIONS.values())
    return sorted(merged.values(), key=lambda row: (order.index(row[0]), row[1]))


def table(found: list[list[Any]]) -> str:
    """The rows in Markdown, with their sums."""
    lines = [
        "| Area | What was tried | Cases | What happens | Bugs fixed |",
        "|---|---|---:|---|---:|",
    ]
    section = ""
    for row in found:
        first = "" if row[0] == section else row[0]
        section = row[0]
        lines.append(f"| {first} | {row[1]} | {row[2]} | {row[3]} | {row[4] or ''} |")
    cases, mended = (sum(row[place] for row in found) for place in (2, 4))
    return "\n".join([*lines, f"| **all** | | **{cases}** | | **{mended}** |", ""])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = rows(terminalreporter.stats.get("passed", []))
    if not found:
        return
    terminalreporter.write_sep("-", "faults that were tried")
    terminalreporter.write_line(table(found))
    failed = [terminalreporter.stats.get(kind) for kind in ("failed", "error")]
    # A part of the tests makes no table of all.
    if ALL and not any(failed) and {row[0] for row in found} == {*SECTIONS.values()}:
        path = ROOT / "docs/faults.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(before + BEGIN + "\n" + table(found) + "\n" + END + rest.partition(END)[2])
