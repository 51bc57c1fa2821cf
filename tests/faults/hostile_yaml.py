"""Files that are no recipes, made by hand or by chance."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.config.recipe_file import recipe_names
from tests.faults.recipes import Path_, holder


def bomb(entry: str) -> str:
    """A billion of something, each level nine times the one before."""
    levels = (
        f"a{level}: &a{level} {entry % ', '.join([f'*a{level - 1}'] * 9)}" for level in range(1, 10)
    )
    return "\n".join(["a0: &a0 {k: v}", *levels])


FILES = {
    "billion laughs, of lists": bomb("[%s]"),
    "billion laughs, of mappings": bomb("{k: [%s]}"),
    "billion laughs, merged": bomb("{<<: [%s]}"),
    "itself inside it": "name: &a [*a]",
    "itself merged into it": "name: &a {<<: *a}",
    "100,000 lists in each other": "[" * 100_000,
    "10,000 mappings in each other": "{a: " * 10_000 + "}" * 10_000,
    "10 MB": "name: " + "x" * 10_000_000,
    "20,000 keys": "".join(f"k{number}:\n" for number in range(20_000)),
    "a key of 200,000 letters": f"? {'k' * 200_000}\n: 1",
    "a number of 10,000 digits": "seed: " + "9" * 10_000,
    "an object": "name: !!python/object/apply:os.system [touch run]",
    "a Python name": "name: !!python/name:os.system",
    "a module": "name: !!python/module:os",
    "a tag of its own": "name: !mine x",
    "a number that is none": "seed: !!int x",
    "a number of nothing": "seed: !!int ''",
    "a float that is none": "seed: !!float x",
    "a truth that is none": "seed: !!bool x",
    "a time that is none": "name: !!timestamp x",
    "a day that is none": "name: 2001-99-99",
    "bytes": "name: !!binary eA==",
    "a set": "!!set {name, title}",
    "a list as a key": "{[name]: x}",
    "a mapping as a key": "{{name: x}: x}",
    "a number as a key": "{1: x}",
    "two documents": "name: x\n---\nname: y",
    "an alias of nothing": "name: *nothing",
    "a key twice": "name: x\nname: y",
    "a key twice, deep inside": "data:\n  images: {normal: a, normal: b}",
    "half a character": r'name: "\ud800"',
    "what steers a terminal": r'"\e[2J\e]0;owned\a": 1',
    "line breaks in a key": r'"a\nb\u2028c\x85d": 1',
    "a NUL": "name: \0",
    "nothing": "",
    "a tab": "\tname: x",
    "text": "recipe",
    "a list": "- name: x",
    "JSON that is cut off": '{"name": "x',
    "a member of NUL": r'{name: x, title: x, members: ["\0"]}',
    "a member of a long name": f"{{name: x, title: x, members: [{'m' * 5000}]}}",
    "a member that is a folder": "{name: x, title: x, members: [/]}",
    "itself as a member": "{name: x, title: x, members: [mine.yaml]}",
    "members that are a mapping": "{name: x, title: x, members: {a: b}}",
    "a pattern of a terabyte": "data: {images: {layout: folder, normal: '{category:>1000000000}'}}",
    "a pattern that looks inside": "data: {images: {layout: folder, normal: '{category!r}'}}",
}
BYTES = {
    "UTF-16": "name: x".encode("utf-16"),
    "Latin-1": "name: x\ntitle: Zähler".encode("latin-1"),
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "random bytes": bytes(range(256)),
}
UNREADABLE = FILES | BYTES


SHIPPED = {name: load_corpus_recipe(name).model_dump(mode="json") for name in recipe_names()}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400]),
    st.floats(),
    st.text(),
    st.sampled_from(
        ["{", "{category}", "{category:>9999999999}", "0.1:0.2", "auto", "nan", "../.."]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)


def places(content: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every value."""
    if path:
        yield path
    if isinstance(content, dict | list):
        steps = content if isinstance(content, dict) else range(len(content))
        for step in steps:
            yield from places(content[step], (*path, step))


PLACES = {name: list(places(content)) for name, content in SHIPPED.items()}


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A shipped recipe of which some values are others, gone, or elsewhere."""
    name = draw(st.sampled_from(sorted(SHIPPED)))
    content = copy.deepcopy(SHIPPED[name])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES[name]))
        try:
            inside = holder(content, path)
            change = draw(st.sampled_from(["value", "gone", "key", "copy"]))
            if change == "value":
                inside[path[-1]] = draw(VALUES)
            elif change == "gone":
                del inside[path[-1]]
            elif change == "key" and isinstance(inside, dict):
                inside[draw(SCALARS)] = inside.pop(path[-1])
            else:
                other = draw(st.sampled_from(PLACES[name]))
                inside[path[-1]] = copy.deepcopy(holder(content, other)[other[-1]])
        except (LookupError, TypeError):
            # What was there is gone already.
            continue
    return content


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The file of a recipe with some bytes changed, gone, doubled or put in."""
    content = bytearray(yaml.safe_dump(SHIPPED[draw(st.sampled_from(sorted(SHIPPED)))]).encode())
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from([b"", bytes(content[start:stop]) * 2, None]))
        content[start:stop] = draw(st.binary(max_size=8)) if piece is None else piece
    return bytes(content)


YAML_LIKE = st.text(st.sampled_from("\n\t :-,?&*!|>'\"%@`[]{}#<=~.0123456789aename\\éx\0"))
