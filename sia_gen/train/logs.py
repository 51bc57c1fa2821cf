"""The log of a training: one JSON object per line, and the same for TensorBoard.

OUT/logs/<category>/
    train.jsonl         {"step": 10, "loss": 0.31, "gradient_norm": 0.9, ...}
    events.out.*        what `tensorboard --logdir OUT/logs` shows
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from sia_gen.io.files import write_text
from sia_gen.io.refusals import writing

LOG = "train.jsonl"


class TrainingLog:
    """Appends figures of a training; what a killed run logged beyond its checkpoint is dropped.

    Args:
        folder: Folder of the log; None logs nothing, for all processes but the first.
        start: The step training goes on from; later lines are of steps that are done again.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self.path = None if folder is None else folder / LOG
        self.writer: SummaryWriter | None = None
        if folder is not None and self.path is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(self.path, "".join(kept_lines(self.path, start)))
            with writing(folder):
                self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None and self.writer is not None:
            with writing(self.path.parent):
                self.writer.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step."""
        if self.path is None or self.writer is None:
            return
        with writing(self.path.parent):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items():
                self.writer.add_scalar(name, value, step)


def kept_lines(path: Path, start: int) -> list[str]:
    """The lines of a log up to a step; what was cut off or damaged is dropped."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n") and step_of(line) <= start]


def step_of(line: str) -> float:
    """The step of a line of a log; infinity if it is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return math.inf
