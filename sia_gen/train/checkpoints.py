"""Training checkpoints: complete or absent, with a link to the last.

    OUT/checkpoints/
        inputs.json         what the training was begun with
        learnt.json         the images that it learns from; see sia_gen.images.learnt
        step-00000500/      everything `Accelerator.save_state` saves, of every process
        step-00001000/
        last -> step-00001000

A checkpoint is written to a hidden folder and renamed once all processes have written their part.
Only then is the oldest removed.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import load, patch_environment

from sia_gen.errors import OutputError, TrainingError
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.images.listing import CategoryImages
from sia_gen.io.files import PLACE, publish_folder, read_json, removed, sync, write_json
from sia_gen.io.refusals import ran_out, writing
from sia_gen.io.tensors import reason_of, what_it_calls
from sia_gen.runtime.progress import notice

KEPT = 2
INPUTS = "inputs.json"
_NAMES = "step-" + 8 * "[0-9]"
# Makes PyTorch load only tensors and numbers, whatever its callers ask for.
TENSORS_ALONE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"

Inputs = Mapping[str, Any]


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, *, kept: int = KEPT) -> None:
    """Saves the state as `folder/step-XXXXXXXX`; every process has to call this.

    Raises:
        OutputError: If the folder has been removed since the training began.
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
                # Accelerate makes folders anew that somebody has removed.
                if not (folder / INPUTS).is_file():
                    raise removed(folder)
                publish_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        _tidy_up(path, kept)
    accelerator.wait_for_everyone()


def load_last(accelerator: Accelerator, folder: Path, *, kept: int = KEPT) -> int:
    """Restores the newest checkpoint in every process; returns its step, 0 if there is none."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return 0
    path, step = checkpoint
    try:
        with patch_environment(**{TENSORS_ALONE: "1"}):
            accelerator.load_state(str(path))
            # Accelerate ignores damage here, and the training would go on with other randomness.
            states = path / f"random_states_{accelerator.process_index}.pkl"
            if states.exists():
                load(states)
    # The errors that a damaged checkpoint raises have no common base.
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
        _tidy_up(path, kept)
    return step


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Returns the newest complete checkpoint and its step, if there is one."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    return checkpoints[-1], int(checkpoints[-1].name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns all complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob(_NAMES) if path.is_dir())


def _tidy_up(newest: Path, kept: int) -> None:
    """Points `last` to the newest checkpoint, and removes old and unfinished ones."""
    folder = newest.parent
    last, temporary = folder / "last", folder / ".last.tmp"
    # The link is for people; some file systems have no links, and a finished run may be read-only.
    with suppress(OSError):
        if last.is_dir() and not last.is_symlink():
            # A tool that follows links made a copy.
            shutil.rmtree(last)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(newest.name, target_is_directory=True)
        temporary.replace(last)
        sync(folder)
    for old in list_checkpoints(folder)[:-kept]:
        # A kill during the removal must not leave a checkpoint that lacks files.
        with suppress(OSError):
            old.rename(folder / f".{old.name}.old")
    for left in [*folder.glob(f".{_NAMES}.old"), *folder.glob(f".{_NAMES}.tmp")]:
        # Some network file systems cannot remove it yet; a later call does.
        shutil.rmtree(left, ignore_errors=True)


def begin_checkpoints(
    checkpoints: Path, inputs: Inputs, learnt: Callable[[], Learnt], *, resume: bool
) -> None:
    """Saves the inputs of a training; without `resume` it removes earlier checkpoints.

    `learnt` describes the images that it learns from, unless an earlier run did.
    """
    if resume:
        # Another process may have begun the training with other inputs meanwhile.
        check_inputs(checkpoints, inputs)
    else:
        shutil.rmtree(checkpoints, ignore_errors=True)
    if last_checkpoint(checkpoints) is None or Learnt.read(checkpoints) is None:
        write_json(checkpoints / LEARNT, learnt().model_dump())
    write_json(checkpoints / INPUTS, inputs)


def images_as_begun(
    checkpoints: Path, listed: Sequence[CategoryImages], root: Path, *, resume: bool
) -> list[CategoryImages]:
    """Returns the images that a training goes on with: those it began with, if all are there.

    A line on stderr says if others have been added since.
    """
    begun = Learnt.read(checkpoints)
    if not resume or begun is None or last_checkpoint(checkpoints) is None:
        return list(listed)
    found = begun.images_of(listed, root)
    if not set(_learnt_in(listed)) <= set(_learnt_in(found)):
        notice(
            f"{checkpoints.name}: goes on with the {len(begun)} photographs that it began with; "
            "those added since are left out. Start again with --no-resume to learn from all."
        )
    return found


def _learnt_in(listed: Sequence[CategoryImages]) -> list[Path]:
    return [path for images in listed for path in (*images.fit, *images.validation)]


def check_inputs(checkpoints: Path, inputs: Inputs) -> None:
    """Raises `OutputError` if there is a checkpoint, and an input has changed since."""
    path = checkpoints / INPUTS
    if last_checkpoint(checkpoints) is None:
        return
    try:
        begun = dict(read_json(path))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise OutputError(
            problem=f"{path} is missing or damaged, so the inputs of the training are unknown.",
            fix="Start again with --no-resume, or choose another folder with --out.",
        ) from error
    for name, given in inputs.items():
        if _without_place(given) != _without_place(begun.get(name)):
            raise OutputError(
                problem=f"{checkpoints} was begun with different inputs ({name}).",
                fix="Give the same inputs to resume, start again with --no-resume, or choose "
                "another folder with --out.",
            )


def _without_place(described: Any) -> Any:
    if not isinstance(described, Mapping):
        return described
    return {name: _without_place(one) for name, one in described.items() if name != PLACE}
