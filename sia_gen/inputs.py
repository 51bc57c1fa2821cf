"""What a training reads, kept beside its checkpoints: a resumed run is the same run.

OUT/checkpoints/<name>/
    inputs.json     what it was begun with: fingerprints of its images and of its corpus
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sia_gen.errors import OutputError
from sia_gen.files import write_json
from sia_gen.strict_json import read_json

INPUTS = "inputs.json"
# Where things lie may change: a folder may be moved, a corpus published.
PLACE = "place"

Inputs = Mapping[str, Mapping[str, Any]]


def fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """Distinguishes files, in their order, from others by their names and sizes."""
    found = [f"{path.name} {path.stat().st_size}" for path in paths]
    # Names of files may be of bytes that are no text.
    digest = hashlib.sha256("\n".join(found).encode(errors="surrogateescape"))
    return {"files": len(found), "sha256": digest.hexdigest()}


def check_inputs(checkpoints: Path, inputs: Inputs) -> None:
    """Refuses to resume a training with other inputs than it was begun with.

    Raises:
        OutputError: If there are checkpoints, and one of the inputs has changed.
    """
    path = checkpoints / INPUTS
    if not path.is_file():
        return
    try:
        begun = {name: comparable(one) for name, one in read_json(path).items()}
    except (ValueError, AttributeError) as error:
        raise OutputError(
            problem=f"{path} is damaged.", fix="Start again with --no-resume."
        ) from error
    for name, given in inputs.items():
        if comparable(given) != begun.get(name):
            raise OutputError(
                problem=f"{checkpoints} was begun with other {name}.",
                fix="Give the same again to resume, start again with --no-resume, or choose "
                "another folder with --out.",
            )


def comparable(described: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of an input."""
    return {name: value for name, value in described.items() if name != PLACE}


def save_inputs(checkpoints: Path, inputs: Inputs) -> None:
    """Keeps what a training is begun with."""
    write_json(checkpoints / INPUTS, inputs)
