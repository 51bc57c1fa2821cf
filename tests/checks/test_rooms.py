"""The layout of the package: few loose files, and folders that import downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import sia_gen

PACKAGE = Path(sia_gen.__file__).parent
MOST_LOOSE_FILES = 5


def room_of(module: str) -> str:
    """The folder below the package that a module is in, or its own name."""
    parts = module.split(".")[1:]
    return parts[0] if parts else "sia_gen"


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "sia_gen":
                names = [f"sia_gen.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("sia_gen."))


def imports_between_rooms() -> dict[str, set[str]]:
    """For each room, those that it imports from."""
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        # What the package itself offers may come from any room.
        if inside.name in ("__init__.py", "__main__.py") and len(inside.parts) == 1:
            continue
        room = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        others = {room_of(module) for module in imported(path)} - {room}
        graph.setdefault(room, set()).update(others)
    return graph


def test_no_two_rooms_import_each_other() -> None:
    graph = imports_between_rooms()
    assert {"cli", "corpus", "io", "realnet"} <= graph.keys()
    # Raises CycleError, which names the circle.
    list(TopologicalSorter(graph).static_order())


def test_few_files_lie_loose() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_LOOSE_FILES
