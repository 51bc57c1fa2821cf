"""Images that are the same byte for byte."""

from __future__ import annotations

import os
import tempfile
from itertools import combinations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sia_gen.images.copies import COMPARED, find_copies

HEAD = b"P5 1 1 255\n"
# Images of few sizes that differ in few places, if at all: before, between and in what is compared.
CONTENTS = st.tuples(
    st.sampled_from([1, 5, 4 * COMPARED, 4000]),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)


def content_of(size: int, place: float | None) -> bytes:
    content = bytearray(b"x" * size)
    if place is not None:
        content[int(place * size)] = ord("y")
    return HEAD + content


@given(st.lists(CONTENTS, max_size=12))
def test_copies_are_found_as_by_comparing_all_pairs(drawn: list[tuple[int, float | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(number)) for number in range(len(drawn))]
        for path, (size, place) in zip(paths, drawn, strict=True):
            path.write_bytes(content_of(size, place))
        expected: dict[Path, Path] = {}
        for first, other in combinations(paths, 2):
            if first.read_bytes() == other.read_bytes():
                expected.setdefault(other, first)
        assert find_copies(paths) == expected
        assert find_copies([*paths, *paths]) == expected


def test_files_that_change_are_read_again(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(HEAD + b"0")
    other.write_bytes(HEAD + b"0")
    assert find_copies([one, other]) == {other: one}
    other.write_bytes(HEAD + b"1")
    os.utime(other, (1, 1))
    assert find_copies([one, other]) == {}


def test_what_is_no_image_is_no_copy(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("missing")
    for name in ("empty", "nothing"):
        (tmp_path / name).touch()
    for name in ("text", "words"):
        (tmp_path / name).write_text("<html>")
    (tmp_path / "a").write_bytes(HEAD + b"0")
    (tmp_path / "link").symlink_to("a")
    paths = [tmp_path / "missing", tmp_path / "zero\0byte", *sorted(tmp_path.iterdir())]
    assert find_copies(paths) == {tmp_path / "link": tmp_path / "a"}
