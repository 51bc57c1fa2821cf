"""YAML that anyone may have written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.config.recipe_file import MOST_BYTES, MOST_LEVELS, dump_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0:0.5", "0:0.5"),
        ("1:30", "1:30"),
        ("0.1:0.2", "0.1:0.2"),
        ("010", 10),
        ("-12", -12),
        ("1.5", 1.5),
        ("1.0e-4", 1e-4),
        ("1e-4", 1e-4),
        (".inf", float("inf")),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("2024-05-01", "2024-05-01"),
        ("~", None),
        ("'1'", "1"),
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 'line 3: found duplicate key "a"'),
        ("- {b: {c: 1, c: 1}}", 'line 1: found duplicate key "c"'),
        ("a: &x [1, *x]", "line 1: 'x' is an anchor or alias"),
        ("b: [1]\na: *x", "line 2: 'x' is an anchor or alias"),
        ("\na: !!python/name:os.system", "line 2: tags such as '.*os.system' are not allowed"),
        ("!!int x", "line 1: tags such as '.*int' are not allowed"),
        ("%YAML 1.1\n---\n1:30", "only YAML 1.2 is read"),
        ("a: [", "line 1: expected the node content"),
        ("[" * 5000, "line 1: this is nested too deeply"),
        ("a:\n" + "[" * MOST_LEVELS, "line 2: this is nested too deeply"),
        ("x" * (MOST_BYTES + 1), "more than 262,144 bytes"),
        ("\0", "unacceptable character"),
    ],
)
def test_reason_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text.encode())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(SCALARS, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)))
def test_what_is_saved_is_read_as_it_was(value: Any) -> None:
    assert parse_yaml(dump_yaml(value).encode()) == value


def test_what_can_be_read_is_not_escaped() -> None:
    assert dump_yaml({"b": "Zähler", "a": "\x85"}) == 'b: Zähler\na: "\\N"\n'
