"""Training checkpoints: complete or absent, with a link to the last.

    OUT/checkpoints/
        step-00000500/      everything `Accelerator.save_state` saves, of every process
        step-00001000/
        last -> step-00001000

A checkpoint is written to a hidden folder and renamed when all processes have written their part.
The one before it is removed only then.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from accelerate import Accelerator

from sia_gen.files import publish_folder, sync
from sia_gen.storage import writing

KEPT = 2
# What file systems without links say.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, *, kept: int = KEPT) -> None:
    """Saves the state of all processes as `folder/step-XXXXXXXX` and points `last` to it.

    Must be called by every process.
    """
    path = folder / f"step-{step:08d}"
    temporary = folder / f".{path.name}.tmp"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        with writing(path):
            accelerator.save_state(str(temporary))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                publish_folder(temporary, path)
                link_last(folder, path.name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        for old in list_checkpoints(folder)[:-kept]:
            # What cannot be removed yet, as on some network file systems, goes with a later one.
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, if there is one."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    return checkpoints[-1], int(checkpoints[-1].name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def remove_checkpoints(folder: Path) -> None:
    """Forgets all checkpoints, so that training starts again."""
    shutil.rmtree(folder, ignore_errors=True)


def link_last(folder: Path, name: str) -> None:
    """Points `folder/last` to the checkpoint `name`, at no moment to nothing.

    It is for people; where there are no links there is none.
    """
    last = folder / "last"
    if last.is_dir() and not last.is_symlink():
        # Copied by a tool that follows links.
        shutil.rmtree(last)
    temporary = folder / ".last.tmp"
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(name, target_is_directory=True)
    except OSError as error:
        if error.errno in NO_LINKS:
            return
        raise OSError(error.errno, error.strerror, str(last)) from error
    temporary.replace(last)
    sync(folder)
