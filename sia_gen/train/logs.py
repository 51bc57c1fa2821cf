"""The log of a training: one JSON object per line, and the same for TensorBoard.

OUT/logs/<category>/
    train.jsonl         {"step": 10, "loss": 0.31, "gradient_norm": 0.9, ...}
    events.out.*        for `tensorboard --logdir OUT/logs`
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from sia_gen.io.files import write_text
from sia_gen.io.refusals import writing

LOG = "train.jsonl"


class TrainingLog:
    """Appends figures of a training, after the last line of a step up to `start`.

    Args:
        folder: Folder of the log; None logs nothing, for all processes but the first.
        start: Step from which training goes on.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / LOG, "".join(_kept_lines(folder / LOG, start)))
            with writing(folder):
                self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None and self.writer is not None:
            with writing(self.folder):
                self.writer.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step."""
        if self.folder is None or self.writer is None:
            return
        with writing(self.folder):
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items():
                self.writer.add_scalar(name, value, step)


def _kept_lines(path: Path, start: int) -> Iterator[str]:
    """Whole lines up to a step; a kill may have cut off the last line."""
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in content.splitlines(keepends=True):
        try:
            # Not strict: gradients overflow in half precision, so a norm may be infinite.
            step = float(json.loads(line)["step"])
        except (ValueError, LookupError, TypeError, RecursionError):
            step = math.inf
        if step <= start and line.endswith("\n"):
            yield line
