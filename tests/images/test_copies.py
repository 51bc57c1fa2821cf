"""Files that are the same byte for byte."""

from __future__ import annotations

import os
import tempfile
from itertools import combinations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sia_gen.images.copies import COMPARED, find_copies

# Files of few sizes that differ in few places, if at all: before, between and in what is compared.
CONTENTS = st.tuples(
    st.sampled_from([0, 1, 5, 4 * COMPARED, 4000]),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)


def content_of(size: int, place: float | None) -> bytes:
    content = bytearray(b"x" * size)
    if place is not None and size:
        content[int(place * size)] = ord("y")
    return bytes(content)


@given(st.lists(CONTENTS, max_size=12))
def test_copies_are_found_as_by_comparing_all_pairs(drawn: list[tuple[int, float | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(len(drawn))]
        for path, (size, place) in zip(paths, drawn, strict=True):
            path.write_bytes(content_of(size, place))
        expected: dict[Path, Path] = {}
        for first, other in combinations(paths, 2):
            if first.read_bytes() == other.read_bytes() != b"":
                expected.setdefault(other, first)
        assert find_copies(paths) == expected
        assert find_copies([*paths, *paths]) == expected


def test_files_that_change_are_read_again(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"same")
    other.write_bytes(b"same")
    assert find_copies([one, other]) == {other: one}
    other.write_bytes(b"else")
    os.utime(other, (1, 1))
    assert find_copies([one, other]) == {}


def test_what_cannot_be_read_is_no_copy(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "link").symlink_to("a")
    names = ("a", "pipe", "folder", "nowhere", "missing", "link")
    assert find_copies(tmp_path / name for name in names) == {tmp_path / "link": tmp_path / "a"}
