"""YAML that anyone may have written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.config.yaml import MOST_BYTES, MOST_NODES, dump_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0:0.5", "0:0.5"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("2024-05-01", "2024-05-01"),
        ("-12", -12),
        ("1.5", 1.5),
        ("1.0e-4", 1e-4),
        (".inf", float("inf")),
        ("yes", True),
        ("~", None),
        ("'1'", "1"),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("{a: &x {c: 1, d: 2}, b: {<<: *x, d: 3}}", {"a": {"c": 1, "d": 2}, "b": {"c": 1, "d": 3}}),
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_numbers_are_decimal_and_nothing_is_a_date(text: str, value: Any) -> None:
    assert parse_yaml(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: 'a' stands here a second time"),
        ("- {b: {c: 1, c: 1}}", "line 1: 'c' stands here a second time"),
        ("a: &x [1, *x]", "line 1: this contains itself"),
        ("a: &x {<<: *x}", "line 1: this contains itself"),
        ("\na: !!python/name:os.system", "line 2: could not determine a constructor for the tag"),
        ("!!timestamp x", "could not determine a constructor"),
        ("!!int x", "invalid literal"),
        ("!!bool x", "cannot be read"),
        ("[1]: x", "line 1: a key is no text"),
        ("a: [", "line 1: expected the node content"),
        ("[" * 5000, "nested too deeply"),
        ("x" * (MOST_BYTES + 1), "more than 262,144 bytes"),
        (f"[&a [{'x, ' * 1000}], {'*a, ' * (MOST_NODES // 1000)}]", "more than 100,000 values"),
        ("\0", "cannot be read"),
    ],
)
def test_reason_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text.encode())


def test_as_many_values_as_are_allowed_are_read() -> None:
    aliases = "*a, " * (MOST_NODES // 1001 - 1)
    assert len(parse_yaml(f"[&a [{'x, ' * 1000}], {aliases}]".encode())) == MOST_NODES // 1001


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(SCALARS, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)))
def test_what_is_saved_is_read_as_it_was(value: Any) -> None:
    assert parse_yaml(dump_yaml(value).encode()) == value


def test_what_can_be_read_is_not_escaped() -> None:
    assert dump_yaml({"b": "Zähler", "a": "\x85"}) == 'b: Zähler\na: "\\N"\n'
