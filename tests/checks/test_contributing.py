"""CONTRIBUTING.md lists every room, and rooms import only from those above them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.checks.test_rooms import imports_between_rooms

pytestmark = pytest.mark.check
TOP = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def test_rooms_import_only_from_those_above_them() -> None:
    rooms = ROW.findall((TOP / "CONTRIBUTING.md").read_text())
    assert sorted(rooms) == sorted(path.parent.name for path in TOP.glob("sia_gen/*/__init__.py"))
    graph = imports_between_rooms()
    for place, room in enumerate(rooms):
        below = graph.get(room, set()) & {*rooms[place:]}
        assert not below, f"{room} imports from {below}"


def test_paths_exist() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:\w+/)+\w*(?:\.py)?)`", text):
        assert (TOP / path).exists() or (TOP / "sia_gen" / path).exists(), path
    for path in re.findall(
        r"(?:tests|benchmarks)/[\w/]+\.py", (TOP / "benchmarks/RESULTS.md").read_text()
    ):
        assert (TOP / path).exists(), path
