"""Locks: who may work on what at the same time, seen from processes of their own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from upath import UPath

from sia_gen.errors import OutputError
from sia_gen.io.locks import EVERYTHING, LOCKS, settling, working_on

HOLD = """
import sys, time
from pathlib import Path
from sia_gen.io.locks import working_on
with working_on(Path(sys.argv[1]), sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4]))):
    print("held", flush=True)
    time.sleep(60)
"""


class Holder:
    """Another process that holds a part of an output."""

    def __init__(self, out: Path, name: str, samples: range = EVERYTHING) -> None:
        arguments = [str(out), name, str(samples.start), str(samples.stop)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_part_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    with (
        Holder(tmp_path, "disc"),
        pytest.raises(OutputError, match=r"another process is at work on .*\(disc\)\. Wait"),
        working_on(tmp_path, "disc"),
    ):
        pass


def test_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    with Holder(tmp_path, "disc") as holder:
        holder.process.kill()
        holder.process.wait()
        with working_on(tmp_path, "disc"):
            pass


def test_other_parts_are_free(tmp_path: Path) -> None:
    with Holder(tmp_path, "disc"), working_on(tmp_path, "plate"):
        pass


@pytest.mark.parametrize(
    ("mine", "free"),
    [
        (range(0, 4), True),
        (range(8, 12), True),
        (range(3, 5), False),
        (range(7, 9), False),
        (range(5, 6), False),
        (EVERYTHING, False),
    ],
)
def test_ranges_of_samples_may_not_overlap(tmp_path: Path, mine: range, free: bool) -> None:
    with Holder(tmp_path, "disc", range(4, 8)):
        if free:
            with working_on(tmp_path, "disc", mine):
                pass
        else:
            with pytest.raises(OutputError), working_on(tmp_path, "disc", mine):
                pass


def test_shards_that_others_began_in_other_ranges_are_tried_too(tmp_path: Path) -> None:
    for samples in (range(0, 4), range(2, 6), range(4, 8)):
        with working_on(tmp_path, "disc", samples):
            pass
    with working_on(tmp_path, "disc", range(0, 4)), working_on(tmp_path, "disc", range(4, 8)):
        with pytest.raises(OutputError), working_on(tmp_path, "disc", range(2, 6)):
            pass
        with working_on(tmp_path, "disc", range(8, 9)):
            pass


@pytest.mark.parametrize("name", ["settling", "claiming", "disc.0-4"])
def test_part_is_held_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    with working_on(tmp_path, name):
        with settling(tmp_path), working_on(tmp_path, "disc"):
            pass
        with pytest.raises(OutputError), working_on(tmp_path, name):
            pass


def test_lock_stays_when_its_file_is_opened_and_closed(tmp_path: Path) -> None:
    with working_on(tmp_path, "disc"):
        for path in (tmp_path / LOCKS).iterdir():
            path.open("ab").close()
        with pytest.raises(OutputError), working_on(tmp_path, "disc"):
            pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_that_was_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    """As those that load images, for a moment after a kill of the one they work for."""
    reader, writer = os.pipe()
    with working_on(tmp_path, "disc"):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        with pytest.raises(OutputError), working_on(tmp_path, "disc"):
            pass
    with working_on(tmp_path, "disc"):
        os.close(writer)
        os.waitpid(child, 0)
    os.close(reader)


def test_file_system_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with working_on(tmp_path, "disc"), settling(tmp_path), working_on(tmp_path, "disc"):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path} cannot be locked (No locks available)")


def test_folder_that_is_removed_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="was removed during the work on it"),
        working_on(tmp_path / "out", "disc"),
    ):
        pass
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(OutputError, match="was removed during the work on it"),
        working_on(tmp_path / "out", "disc"),
    ):
        (tmp_path / "out").rename(tmp_path / "elsewhere")


def append(out: Path) -> None:
    """Adds to a number in a file, slowly enough for others to come between."""
    for _ in range(5):
        with settling(out):
            number = int((out / "number").read_text())
            time.sleep(0.002)
            (out / "number").write_text(str(number + 1))


def test_who_settles_waits_for_others(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "15"


def test_url_is_not_locked() -> None:
    out = UPath("memory://locks/out")
    with working_on(out, "disc"), settling(out):
        assert not out.exists()
