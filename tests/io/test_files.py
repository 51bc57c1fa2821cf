"""Files and folders that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest

from sia_gen.errors import OutputError
from sia_gen.io import files
from sia_gen.io.files import (
    GROUP,
    FileGroups,
    atomic_folder,
    atomic_path,
    atomic_siblings,
    batches_ahead,
    prepare_output,
    publish_folder,
    sha256,
    shortened_stem,
    worker_threads,
    write_json,
    write_text,
)


class Interruption(BaseException):
    """Ends a test's work as Ctrl-C would."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


def test_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ha")
            raise Interruption

    with pytest.raises(Interruption):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_folder_that_is_removed_under_way_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "out" / "file.txt"

    def lose() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("whole")
            shutil.rmtree(path.parent)

    with pytest.raises(OutputError, match=f"the output folder {path.parent} was removed"):
        lose()


def test_folder_appears_when_it_is_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").touch()
    with atomic_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "fresh").write_text("whole")
        assert names(path) == ["stale"]
    assert names(path) == ["inner"]
    assert (path / "inner" / "fresh").read_text() == "whole"
    assert names(tmp_path) == ["folder"]


def test_interrupted_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()

    def write_half() -> None:
        with atomic_folder(path) as temporary:
            (temporary / "half").touch()
            raise Interruption

    with pytest.raises(Interruption):
        write_half()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_files_that_belong_together_move_together_the_main_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_text("old")
    replaced: list[str] = []
    replace = Path.replace

    def watched(path: Path, target: Path) -> Path:
        assert target.parent == tmp_path
        replaced.append(target.name)
        return replace(path, target)

    with atomic_siblings(tmp_path / "model.a") as temporary:
        for name in ("model.a", "model.bin", "z.json"):
            (temporary.parent / name).write_text("new")
        assert (tmp_path / "model.bin").read_text() == "old"
        monkeypatch.setattr(Path, "replace", watched)
    assert replaced == ["model.bin", "z.json", "model.a"]
    assert names(tmp_path) == ["model.a", "model.bin", "z.json"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"new"}


def test_interrupted_siblings_leave_the_old_ones_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model.a").write_text("old")

    def write_half() -> None:
        with atomic_siblings(tmp_path / "model.a") as temporary:
            temporary.write_text("half")
            raise Interruption

    with pytest.raises(Interruption):
        write_half()
    assert names(tmp_path) == ["model.a"]
    assert (tmp_path / "model.a").read_text() == "old"

    def lose() -> None:
        with atomic_siblings(tmp_path / "out/model.a") as temporary:
            shutil.rmtree(tmp_path / "out")
            temporary.write_text("lost")

    with pytest.raises(OutputError, match=r"the output folder .*out was removed"):
        lose()


def test_folder_starts_empty_after_a_killed_run_left_its_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        left_behind = temporary.name
    (tmp_path / left_behind).mkdir()
    (tmp_path / left_behind / "half").touch()
    with atomic_folder(path) as temporary:
        assert names(temporary) == []


def test_published_folder_moves(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    publish_folder(tmp_path / "here", tmp_path / "there")
    assert names(tmp_path) == ["there"]


def test_all_of_a_folder_is_on_the_disk_before_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, synced = tmp_path / "here", []
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").touch()
    monkeypatch.setattr(files, "sync", synced.append)
    publish_folder(folder, tmp_path / "there")
    *before, last = synced
    assert set(before) == {folder, folder / "inner", folder / "inner/file"}
    assert last == tmp_path


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "Größe")
    assert (tmp_path / "text").read_bytes() == "Größe".encode()


def test_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "names.txt", "a\udcff.png")
    assert (tmp_path / "names.txt").read_bytes() == rb"a\udcff.png"


@pytest.mark.parametrize(
    ("stem", "short"),
    [("part", "part"), ("x" * 200, "x" * 200), ("x" * 251, "x" * 200), ("猫" * 80, "猫" * 66)],
)
def test_long_names_leave_room(stem: str, short: str) -> None:
    assert shortened_stem(stem) == short


def test_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, 0.15]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, 0.15]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_no_reader_knows(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": value})
    assert names(tmp_path) == []


def test_checksum_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_output_folder_is_made_with_its_parents_and_may_exist(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare_output(folder)
    prepare_output(folder)
    assert folder.is_dir()


@pytest.mark.parametrize("path", ["file", "file/inside"])
def test_output_folder_in_place_of_a_file_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="cannot make the output folder"):
        prepare_output(tmp_path / path)
    assert (tmp_path / "file").read_text() == "precious"


def test_read_only_output_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asked of the system rather than arranged: permissions do not bind root.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is read-only"):
        prepare_output(tmp_path)


def test_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("I live")
    (tmp_path / ".new.json.tmp").symlink_to(tmp_path / "canary")
    write_text(tmp_path / "new.json", "new")
    assert (tmp_path / "canary").read_text() == "I live"
    assert (tmp_path / "new.json").read_text() == "new"
    assert not (tmp_path / "new.json").is_symlink()


def test_what_a_killed_process_left_of_the_old_folder_goes_with_the_next_one(
    tmp_path: Path,
) -> None:
    (tmp_path / ".folder.old").mkdir()
    with atomic_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"]


def test_windows_opens_no_folders_and_syncs_what_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open, access = os.open, dict[int, int]()

    def open_file(path: Path, flags: int) -> int:
        if path.is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        descriptor = really_open(path, flags)
        access[descriptor] = flags
        return descriptor

    def sync(descriptor: int) -> None:
        if access[descriptor] != os.O_RDWR:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(files, "WINDOWS", True, raising=False)
    monkeypatch.setattr("os.open", open_file)
    monkeypatch.setattr("os.fsync", sync)
    write_text(tmp_path / "file.txt", "whole")
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "file.txt").write_bytes(b"whole")
    assert names(tmp_path) == ["file.txt", "folder"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been waited for: names of files and folders."""
    names: list[str] = []
    sync = files.sync

    def watched(path: Path) -> None:
        names.append(path.name)
        sync(path)

    monkeypatch.setattr(files, "sync", watched)
    return names


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def test_files_of_a_group_get_their_names_together(tmp_path: Path, synced: list[str]) -> None:
    with FileGroups() as written:
        for number in range(GROUP + 3):
            folder = tmp_path / ("even" if number % 2 == 0 else "odd")
            written.add(folder / f"{number}.txt", text(str(number)))
            whole = list(tmp_path.rglob("[0-9]*.txt"))
            assert len(whole) == (GROUP if number + 1 >= GROUP else 0)
    found = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"{number}.txt": str(number) for number in range(GROUP + 3)}
    # Each file once, and each of the two folders once in either group.
    assert len(synced) == GROUP + 3 + 4
    assert synced.count("even") == synced.count("odd") == 2


@pytest.mark.parametrize("where", ["in a thread", "outside"])
def test_what_goes_wrong_in_a_group_leaves_whole_files_alone(tmp_path: Path, where: str) -> None:
    def fail(path: Path) -> None:
        path.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with FileGroups() as written:
            written.add(tmp_path / "a", text("a"))
            written.publish()
            written.add(tmp_path / "b", text("b"))
            if where == "outside":
                raise Interruption
            written.add(tmp_path / "c", fail)

    with pytest.raises((OSError, Interruption)) as error:
        write()
    assert names(tmp_path) == ["a"]
    if where == "in a thread":
        assert error.value.filename == str(tmp_path / "c")


def test_killed_group_is_replaced_by_the_next(tmp_path: Path) -> None:
    def killed() -> None:
        group = FileGroups()
        for name in "ab":
            group.add(tmp_path / name, text("old"))
        wait(group.written.values())
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert names(tmp_path) == [".a.tmp", ".b.tmp"]
    with FileGroups() as written:
        for name in "ab":
            written.add(tmp_path / name, text("new"))
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


def test_batches_come_in_order_one_ahead() -> None:
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError(number)
        return number**2

    batches = [[0, 1], [2, 3], [4], [5, 6]]
    with worker_threads() as pool:
        found = batches_ahead(pool, square, batches)
        assert [one.result() for one in next(found)] == [0, 1]
        assert set(begun) <= {0, 1, 2, 3}
        first, second = next(found)
        assert first.result() == 4
        # What goes wrong with one concerns no other.
        with pytest.raises(ValueError, match="3"):
            second.result()
        assert [[one.result() for one in batch] for batch in found] == [[16], [25, 36]]


def test_threads_end_without_what_has_not_begun() -> None:
    free, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        free.wait(5)
        done.append(number)

    def interrupted() -> None:
        with worker_threads() as pool:
            for number in range(100):
                pool.submit(work, number)
            threading.Timer(0.05, free.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) < 100
