"""What a training reads, kept beside its checkpoints: a resumed run is the same run.

OUT/checkpoints/<name>/
    inputs.json     what it was begun with: its photographs, its corpus, its textures
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sia_gen.errors import OutputError
from sia_gen.io.files import write_json
from sia_gen.io.json import read_json
from sia_gen.train.checkpoints import last_checkpoint, remove_checkpoints

INPUTS = "inputs.json"
# A corpus may be moved, and published: where it lies does not count.
PLACE = "place"

Inputs = Mapping[str, Any]


def fingerprint(files: Iterable[Path]) -> dict[str, Any]:
    """Describes files by their names and sizes, in their order; they are not read."""
    found = [f"{file.name} {size_of(file)}" for file in files]
    # Names of files may be of bytes that are no text.
    digest = hashlib.sha256("\n".join(found).encode(errors="surrogateescape"))
    return {"files": len(found), "sha256": digest.hexdigest()}


def size_of(file: Path) -> int:
    """Bytes of a file, -1 of one that is not there: whoever reads it says so."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


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
