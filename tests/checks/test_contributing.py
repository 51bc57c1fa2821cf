"""What CONTRIBUTING.md says of imports is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.check
TOP = Path(__file__).parents[2]
PACKAGE = TOP / "sia_gen"
ROW = re.compile(r"^\| `sia_gen/(\w+)/` \|.*\| (.*) \|$", re.MULTILINE)


def allowed() -> dict[str, set[str]]:
    """By folder, the folders and modules that it may import; none for those that may all."""
    text = (TOP / "CONTRIBUTING.md").read_text()
    return {folder: {*re.findall(r"`([\w.]+)`", what)} for folder, what in ROW.findall(text)}


def imported(folder: Path) -> set[str]:
    """The modules of other folders that are imported anywhere in a folder, `corpus.card`."""
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules = {name.removeprefix("sia_gen.") for name in names if name.startswith("sia_gen.")}
    return {
        module
        for module in modules
        if (PACKAGE / module.partition(".")[0]).is_dir() and module.partition(".")[0] != folder.name
    }


def test_table_of_imports_is_what_is_imported() -> None:
    table = allowed()
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}
    assert table.keys() == folders
    for folder in sorted(folders):
        modules = imported(PACKAGE / folder)
        covered = {
            module: {name for name in table[folder] if f"{module}.".startswith(f"{name}.")}
            for module in modules
        }
        assert [module for module, names in covered.items() if not names] == [], folder
        assert table[folder] == set().union(*covered.values()), folder


def test_every_module_of_the_demo_stands_in_the_table() -> None:
    modules = {path.name for path in PACKAGE.glob("demo*.py")}
    text = (TOP / "CONTRIBUTING.md").read_text()
    assert [name for name in modules if f"`{name}`" not in text] == []
