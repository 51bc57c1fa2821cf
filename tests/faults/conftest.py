"""Records which faults were tried, and prints the table of them.

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

# Fixtures of the tests of commands.
__all__ = ["refuse", "run"]
ALL = os.environ.get("SIA_GEN_FAULTS") == "all"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Otherwise processes of tests in the background of a script would ignore it too.
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
    "test_server": "Server",
    "test_network": "Supply chain",
    "test_supply_chain": "Supply chain",
}

Tried = Callable[..., None]
T, U = TypeVar("T"), TypeVar("U")


def times(few: int, many: int) -> int:
    """How often to try: a few times, or many."""
    return many if ALL else few


def pairs(ones: Iterable[T], others: Iterable[U]) -> list[tuple[T, U]]:
    """All pairs; in a quick run only enough to have each of the ones and of the others once."""
    first, second = list(ones), list(others)
    if ALL:
        return list(itertools.product(first, second))
    count = range(max(len(first), len(second)))
    return [(first[i % len(first)], second[i % len(second)]) for i in count]


def few(cases: Iterable[T], number: int = 0) -> list[T]:
    """All cases; in a quick run one of them, a different one for each number."""
    every = list(cases)
    return every if ALL else [every[number % len(every)]]


@pytest.fixture
def tried(record_property: Callable[[str, Any], None], request: pytest.FixtureRequest) -> Tried:
    """Records what a test tried: `tried(what, cases, outcome, fixed)`.

    `fixed` counts bugs that these faults found and that have been fixed since. Tests that record
    the same thing share a row of the table.
    """
    section = SECTIONS[Path(request.path).stem]

    def tell(what: str, cases: int, outcome: str, fixed: int = 0) -> None:
        record_property("fault", [section, what, cases, outcome, fixed])

    return tell


@pytest.fixture
def line(tmp_path: Path, photographs: Path, recipe: Any) -> CommandLine:
    """A folder with a recipe in it, to run commands in."""
    return CommandLine(tmp_path, photographs, recipe)


def rows(reports: list[pytest.TestReport]) -> list[list[Any]]:
    """Merges what all tests recorded into rows."""
    merged: dict[tuple[str, str], list[Any]] = {}
    for report in reports:
        for name, (section, what, cases, outcome, fixed) in report.user_properties:
            if name != "fault":
                continue
            row = merged.setdefault((section, what), [section, what, 0, outcome, 0])
            row[2] += cases
            row[4] = max(row[4], fixed)
    order = list(SECTIONS.values())
    return sorted(merged.values(), key=lambda row: (order.index(row[0]), row[1]))


def table(found: list[list[Any]]) -> str:
    """Formats the rows in Markdown, with totals."""
    lines = [
        "| Area | What was tried | Cases | What happens | Bugs fixed |",
        "|---|---|---:|---|---:|",
    ]
    section = ""
    for row in found:
        first = "" if row[0] == section else row[0]
        section = row[0]
        lines.append(f"| {first} | {row[1]} | {row[2]} | {row[3]} | {row[4] or ''} |")
    cases, fixed = (sum(row[place] for row in found) for place in (2, 4))
    return "\n".join([*lines, f"| **all** | | **{cases}** | | **{fixed}** |", ""])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = rows(terminalreporter.stats.get("passed", []))
    if not found:
        return
    terminalreporter.write_sep("-", "faults that were tried")
    terminalreporter.write_line(table(found))
    failed = [terminalreporter.stats.get(kind) for kind in ("failed", "error")]
    # A part of the tests must not replace the whole table.
    if ALL and not any(failed) and {row[0] for row in found} == {*SECTIONS.values()}:
        path = ROOT / "docs/faults.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(before + BEGIN + "\n" + table(found) + "\n" + END + rest.partition(END)[2])
