"""JSON that anyone may have written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.io import files
from sia_gen.io.files import parse_json, read_json

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | FLOATS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"NaN", "expected value"),
        (b"[-Infinity]", "invalid number"),
        (b"1e999", "Out of range float values"),
        (b"[" * 100_000, "recursion limit exceeded"),
        (b"9" * 5000, "number out of range"),
        (b"\xff", "expected value"),
        (b'"\xff"', "invalid unicode code point"),
        ("{}".encode("utf-16"), "expected value"),
        (rb'["\ud800"]', "unexpected end of hex escape"),
        (b"", "EOF while parsing"),
        (b"{} {}", "trailing characters"),
    ],
)
def test_anything_else_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_json(content)


def test_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_JSON", 4)
    (tmp_path / "some.json").write_text("[10]")
    assert read_json(tmp_path / "some.json") == [10]
    (tmp_path / "some.json").write_text("[100]")
    with pytest.raises(ValueError, match="it has more than 4 bytes"):
        read_json(tmp_path / "some.json")


@pytest.mark.timeout(20)
def test_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "some.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "some.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "endless.json")
