"""What storage does to commands, on file systems that last as long as a test.

Nothing here imports the Hub's client: `tests.processes` runs it apart from other tests.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.processes import Condition, Told, run_here

CPU = ["--device", "cpu", "--precision", "fp32"]
DISC = ["--recipe", "parts.yaml", "--data", "images", "--category", "disc"]
COMMANDS = {
    "train-diffusion": [*DISC, *CPU],
    "synthesize": ["--recipe", "parts.yaml", "--category", "disc", "--model", "models", *CPU],
    "predict": ["realnet/disc", "images/disc/test", *CPU],
    "compose": [*DISC, "--corpus", "corpus"],
    "compose --format folder": [*DISC, "--corpus", "corpus"],
    "import-adm": ["adm.pt", "--image-size", "16"],
    "import-realnet": ["ckpt_best.pth.tar", "--config", "realnet.yaml"],
    "evaluate": [*DISC, "--model", "realnet", *CPU],
    "train-classifier": ["--recipe", "parts.yaml", "--data", "images", *CPU],
    "calibrate": [*DISC, "--model", "models", *CPU],
    "inspect": ["corpus", "--data", "images", "--device", "cpu"],
    "fit-realnet": [*DISC, "--corpus", "corpus", *CPU],
    "synthesize --only": ["parts_disc_00000001", "--recipe", "parts.yaml", "--model", "models"],
    "export": ["realnet/disc"],
    "push-to-hub": ["OUT", "ada/stored"],
}
# In the folder of a test: where file systems are mounted.
DISK = Path("disk")
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
FILES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.listdir"}


class Story(NamedTuple):
    """A command that storage gets in the way of, and the same command again.

    Attributes:
        first: How the first ended.
        left: What it left behind that is not whole.
        second: How the second ended.
        files: The hashes of all files in the end, by path.
    """

    first: Told
    left: list[str]
    second: Told
    files: dict[str, str]


def own_mounts() -> None:
    """From now on this process mounts for itself alone; nobody needs to be root for it."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def begin(
    arguments: Sequence[str], folder: Path, told: Path, condition: Condition | None = None
) -> int:
    """Forks a process that runs sia-gen in a folder; returns its number."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            code = run_here(arguments, folder, told, condition)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return number


def end(number: int, told: Path) -> Told:
    """Waits for a process; tells how it ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    return Told(code, 0.0, told.read_text())


def run(arguments: Sequence[str], folder: Path, condition: Condition | None = None) -> Told:
    """Runs sia-gen in a folder."""
    told = folder / "told"
    return end(begin(arguments, folder, told, condition), told)


def arguments(name: str, out: Path) -> list[str]:
    """The words of a command that writes to `out`."""
    command, *options = name.split()
    if command == "push-to-hub":
        return [command, str(out), "ada/stored"]
    target = out.with_suffix(".pt2") if command == "export" else out
    return [command, *options, *COMMANDS[name], "--out", str(target)]


def as_always() -> None:
    """What all commands run with: an untrained model has neither time nor strengths to show."""
    from sia_gen.config.strength import Strength
    from sia_gen.inspection import calibrate

    os.environ["HF_TOKEN"] = "hf_of_ada"
    calibrate.useful_range = lambda *_: Strength(0.1, 0.2)


def under(conditions: list[Condition]) -> None:
    """Several conditions at once."""
    as_always()
    for condition in conditions:
        condition()


def at_sync(number: int, action: Callable[[], None]) -> None:
    """Does something before a process waits for the disk the so-many-th time."""
    sync, left = os.fsync, [number]

    def counted(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            action()
        sync(descriptor)

    os.fsync = counted


def at_file(number: int, action: Callable[[], None]) -> None:
    """Does something before a process opens, makes or renames its so-many-th file on the disk."""
    left = [number]

    def look(event: str, values: tuple[Any, ...]) -> None:
        if event in FILES and left[0] and str(DISK) in str(values[0]):
            left[0] -= 1
            if left[0] == 0:
                action()

    sys.addaudithook(look)


def refuse(reason: int) -> None:
    raise OSError(reason, os.strerror(reason))


def remove() -> None:
    shutil.rmtree(DISK, ignore_errors=True)
    DISK.mkdir()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def slow_disk(seconds: float) -> None:
    """Every wait for the disk takes long."""
    sync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(seconds)
        sync(descriptor)

    os.fsync = slow


def small_files(largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def foreign_file_system() -> None:
    """No links, no locks, and folders cannot be synced: as on FAT, and on some network shares."""
    import fcntl

    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refuse(errno.EINVAL)
        sync(descriptor)

    os.fsync = files_only
    os.symlink = lambda *_, **__: refuse(errno.EPERM)
    fcntl.flock = lambda *_: refuse(errno.ENOLCK)


def contents(folder: Path) -> dict[str, str]:
    """The hashes of all files; but for logs, which tell how often a training was broken off."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "logs" not in path.parts
    }


def half_written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.suffix in (".tmp", ".old")]


def make_inputs(folder: Path) -> list[Told]:
    """Makes a corpus and a detector to work with."""
    synthesis = ["synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU]
    fitting = ["fit-realnet", *DISC, "--corpus", "corpus", *CPU]
    return [
        run([*synthesis, "--out", "corpus"], folder),
        run([*fitting, "--out", "realnet"], folder),
    ]


def prepare(name: str, folder: Path) -> None:
    """What has to be on the disk before: what is published is written to where it is."""
    if name == "push-to-hub":
        shutil.copytree(folder / "corpus", folder / DISK / "out")


def whole(name: str, folder: Path) -> Told:
    """A command that nothing gets in the way of; its disk stays as `whole/NAME`."""
    (folder / DISK).mkdir()
    prepare(name, folder)
    told = run(arguments(name, DISK / "out"), folder, as_always)
    shutil.move(folder / DISK, folder / "whole" / name)
    return told


def told_twice(name: str, folder: Path, condition: Condition, mend: Condition) -> Story:
    """Runs a command under a condition, and again once that is fixed."""
    words = arguments(name, DISK / "out")
    first = run(words, folder, condition)
    left = half_written(folder / DISK)
    mend()
    second = run(words, folder, as_always)
    return Story(first, left, second, contents(folder / DISK))


def nothing() -> None:
    pass


def full_disk(name: str, folder: Path, room: int, inodes: int) -> Story:
    """A disk with room for so many KiB and files more."""
    own_mounts()
    disk = folder / DISK
    disk.mkdir()
    mount("-t", "tmpfs", "tmpfs", disk)
    prepare(name, folder)
    state = os.statvfs(disk)
    used = (state.f_blocks - state.f_bfree) * state.f_bsize // 1024
    files = state.f_files - state.f_ffree
    mount("-o", f"remount,size={used + room}k,nr_inodes={files + inodes}", disk)
    mend = partial(mount, "-o", "remount,size=1g,nr_inodes=10000", disk)
    return told_twice(name, folder, as_always, mend)


def read_only(name: str, folder: Path) -> Story:
    """A disk that is read-only."""
    own_mounts()
    disk = folder / DISK
    disk.mkdir()
    mount("-t", "tmpfs", "tmpfs", disk)
    prepare(name, folder)
    mount("-o", "remount,ro", disk)
    return told_twice(name, folder, as_always, partial(mount, "-o", "remount,rw", disk))


def condition(name: str, folder: Path, *conditions: Condition) -> Story:
    """Any other condition, in a folder of its own."""
    (folder / DISK).mkdir()
    prepare(name, folder)
    return told_twice(name, folder, partial(under, list(conditions)), nothing)


def second_process(name: str, folder: Path) -> tuple[Told, int, Story]:
    """A process that holds the output, another one that wants to, and one after the first died."""
    (folder / DISK).mkdir()
    prepare(name, folder)
    words, told = arguments(name, DISK / "out"), folder / "holder"
    holder = begin(words, folder, told, partial(under, [partial(at_sync, 1, stop)]))
    os.waitpid(holder, os.WUNTRACED)
    second = run(words, folder, as_always)
    os.kill(holder, signal.SIGKILL)
    killed = end(holder, told)
    last = run(words, folder, as_always)
    return second, killed.code, Story(last, [], last, contents(folder / DISK))
