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
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import load

from sia_gen.errors import OutputError, TrainingError
from sia_gen.io.files import PLACE, publish_folder, sync, write_json
from sia_gen.io.json import read_json
from sia_gen.io.refusals import writing
from sia_gen.io.tensors import reason_of, what_it_calls
from sia_gen.runtime.out_of_memory import ran_out

KEPT = 2
NAMES = "step-" + 8 * "[0-9]"
# What makes PyTorch load tensors and numbers alone, whatever its callers ask for.
TENSORS_ALONE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# What file systems without links say.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
# What Windows says to whom it does not trust with links.
NO_PRIVILEGE = 1314


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
        remove_old(folder, kept)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, path: Path, *, kept: int = KEPT) -> None:
    """Restores the state of all processes; each has to call it.

    What a process that was killed left undone beside it is done.

    Raises:
        TrainingError: If the checkpoint is damaged, of another network, or would run code.
    """
    try:
        with tensors_alone():
            accelerator.load_state(str(path))
            # Accelerate goes on without these if they are damaged, and the run is another then.
            states = path / f"random_states_{accelerator.process_index}.pkl"
            if states.exists():
                load(states)
    # What a damaged checkpoint makes Accelerate raise has no common base.
    except Exception as error:
        if ran_out(error):
            raise
        called = what_it_calls(error)
        why = f"it would run '{called}'" if called else reason_of(error)
        raise TrainingError(
            problem=f"cannot go on from the checkpoint {path} ({why}).",
            fix="Delete it to go on from the one before, or start again with --no-resume.",
        ) from error
    if accelerator.is_main_process:
        # Who only goes on to finish need not be able to write here.
        with suppress(OSError):
            link_last(path.parent, path.name)
        remove_old(path.parent, kept)


def load_last(accelerator: Accelerator, folder: Path, *, kept: int = KEPT) -> int:
    """Loads the newest checkpoint, if there is one; see `load_checkpoint` for the errors.

    Returns:
        The steps that are done, 0 if there is no checkpoint.
    """
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return 0
    path, step = checkpoint
    load_checkpoint(accelerator, path, kept=kept)
    return step


@contextmanager
def tensors_alone() -> Iterator[None]:
    """Has nothing unpickled that is more than tensors and numbers; Accelerate would run it."""
    before = os.environ.get(TENSORS_ALONE)
    os.environ[TENSORS_ALONE] = "1"
    try:
        yield
    finally:
        del os.environ[TENSORS_ALONE]
        if before is not None:
            os.environ[TENSORS_ALONE] = before


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, if there is one."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    return checkpoints[-1], int(checkpoints[-1].name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob(NAMES) if path.is_dir())


def remove_old(folder: Path, kept: int) -> None:
    """Removes all but the newest checkpoints, and what is left of those that were not finished.

    Each gets another name first: broken off meanwhile, it leaves no checkpoint that lacks files.
    """
    for old in list_checkpoints(folder)[:-kept]:
        with suppress(OSError):
            old.rename(folder / f".{old.name}.old")
    for left in [*folder.glob(f".{NAMES}.old"), *folder.glob(f".{NAMES}.tmp")]:
        # What cannot be removed yet, as on some network file systems, goes with a later one.
        shutil.rmtree(left, ignore_errors=True)


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
        if error.errno in NO_LINKS or getattr(error, "winerror", None) == NO_PRIVILEGE:
            return
        raise OSError(error.errno, error.strerror, str(last)) from error
    temporary.replace(last)
    sync(folder)


INPUTS = "inputs.json"

Inputs = Mapping[str, Any]


def check_inputs(checkpoints: Path, inputs: Inputs) -> None:
    """Refuses to resume a training with other inputs than it was begun with.

    Raises:
        OutputError: If there is a checkpoint, and an input has changed since.
    """
    path = checkpoints / INPUTS
    if last_checkpoint(checkpoints) is None:
        return
    try:
        begun = dict(read_json(path))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise OutputError(
            problem=f"{path} is missing or damaged: nothing says what the training was begun with.",
            fix="Start again with --no-resume, or choose another folder with --out.",
        ) from error
    for name, given in inputs.items():
        if without_place(given) != without_place(begun.get(name)):
            raise OutputError(
                problem=f"{checkpoints} was begun with different inputs ({name}).",
                fix="Give the same again to resume, start again with --no-resume, or choose "
                "another folder with --out.",
            )


def without_place(described: Any) -> Any:
    """What counts of the description of an input."""
    if not isinstance(described, Mapping):
        return described
    return {name: without_place(one) for name, one in described.items() if name != PLACE}


def begin_checkpoints(checkpoints: Path, inputs: Inputs, *, resume: bool) -> None:
    """Keeps what a training is begun with; without `resume` it forgets earlier checkpoints.

    Raises:
        OutputError: If another process has begun it with other inputs meanwhile.
    """
    if resume:
        check_inputs(checkpoints, inputs)
    else:
        remove_checkpoints(checkpoints)
    write_json(checkpoints / INPUTS, inputs)
