"""Places: folders and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from sia_gen.errors import OptionError
from sia_gen.io.files import atomic_path, files_below, location, public_name, write_text


def test_paths_and_file_urls_are_paths(tmp_path: Path) -> None:
    for name in ("runs/corpus", "://", "x y://z", "a://b", "C:/corpus"):
        assert location(name) == Path(name)
    assert location(f"file://{tmp_path}/corpus") == tmp_path / "corpus"
    assert type(location(f"file://{tmp_path}")) is type(tmp_path)


def test_other_urls_are_reached_by_fsspec() -> None:
    place = location("memory://bucket/corpus")
    assert isinstance(place, UPath)
    assert not isinstance(place, Path)
    assert str(place) == "memory://bucket/corpus"


@pytest.mark.parametrize("url", ["nothing://bucket", "s4://bucket/corpus"])
def test_unknown_urls_are_refused(url: str) -> None:
    with pytest.raises(OptionError, match="cannot reach"):
        location(url)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_files_are_whole_or_absent_in_any_place(kind: str, tmp_path: Path) -> None:
    root = tmp_path if kind == "folder" else location(f"memory://{tmp_path.name}")
    write_text(root / "a" / "one.txt", "1")
    write_text(root / "b" / "two.txt", "2")

    def interrupted() -> None:
        with atomic_path(root / "a" / "three.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files_below(root, "**/*.txt") == ["a/one.txt", "b/two.txt"]
    assert (root / "a" / "one.txt").read_text() == "1"
    write_text(root / "a" / "one.txt", "changed")
    assert (root / "a" / "one.txt").read_text() == "changed"
    assert files_below(root / "nowhere", "*") == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("runs/corpus", "runs/corpus"),
        ("/home/ada/corpora/cells", "cells"),
        ("memory://user:secret@host/cells", "memory://host/cells"),
        ("memory://cells", "memory://cells"),
    ],
)
def test_public_name_says_nothing_of_a_machine(place: str, name: str) -> None:
    assert public_name(location(place)) == name
