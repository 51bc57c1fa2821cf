"""The figures of a training: watched, so that it stops before divergence spoils a checkpoint.

OUT/logs/<category>/
    train.jsonl         {"step": 10, "loss": 0.31, "gradient_norm": 0.9, ...}
    events.out.*        the same for `tensorboard --logdir OUT/logs`
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Self

import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from sia_gen.errors import TrainingError
from sia_gen.io.files import write_text
from sia_gen.io.refusals import writing
from sia_gen.train.checkpoints import last_checkpoint

LOG = "train.jsonl"
# Half precision finds its loss scale by overshooting, which skips a few steps in a row.
MOST_SKIPPED = 25
STEPS_BETWEEN_LOOKS = 10
NORM = "gradient_norm"


class TrainingLog:
    """Appends figures of a training, after the last line of a step up to `start`.

    A `folder` of None logs nothing, for all processes but the first.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        # A run that was killed after its last checkpoint repeats what it logged since.
        self.logged: set[tuple[int, frozenset[str]]] = set()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            kept = list(_kept_lines(folder / LOG, start))
            write_text(folder / LOG, "".join(kept))
            for figures in map(json.loads, kept):
                self.logged.add((figures.pop("step"), frozenset(figures)))
            with writing(folder):
                self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None and self.writer is not None:
            with writing(self.folder):
                self.writer.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step, unless an earlier run did."""
        if self.folder is None or self.writer is None or (step, frozenset(figures)) in self.logged:
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


class TrainingWatch:
    """Keeps the figures of steps on the device, and looks at them every few steps.

    A look waits for the GPU, which otherwise always has the next steps queued. So a training looks
    every `STEPS_BETWEEN_LOOKS` steps, and before it saves or shows anything. An error names `rate`,
    the field of the recipe with the learning rate.
    """

    def __init__(self, name: str, checkpoints: Path, rate: str, accelerator: Accelerator) -> None:
        self.name, self.checkpoints, self.rate = name, checkpoints, rate
        self.accelerator = accelerator
        self.skipped = 0
        self.names: list[str] = []
        self.rows: list[torch.Tensor] = []

    def add(self, gradient_norm: torch.Tensor, **figures: torch.Tensor) -> None:
        """Adds the figures of a step, all scalars; the norm is equal in all processes."""
        self.names = [NORM, *figures]
        # A copy, because a compiled network overwrites its losses in the next step.
        parts = (gradient_norm, *figures.values())
        self.rows.append(torch.stack([part.detach().float() for part in parts]))

    def is_due(self, done: int) -> bool:
        """Returns whether to look after `done` steps."""
        return done % STEPS_BETWEEN_LOOKS == 0

    def look(self, done: int) -> list[dict[str, float]]:
        """Returns the figures of each step from the last look to `done`, means over processes."""
        rows = self.accelerator.reduce(torch.stack(self.rows), "mean").tolist()
        self.rows.clear()
        recent = [dict(zip(self.names, row, strict=True)) for row in rows]
        for step, figures in enumerate(recent, done - len(recent) + 1):
            self._check(step, figures[NORM])
        return recent

    def report(self, done: int, log: TrainingLog, rate: float) -> dict[str, float]:
        """Looks, logs the means since the last look with the last norm and rate; returns them."""
        recent = self.look(done)
        means = {name: fmean(row[name] for row in recent) for name in self.names if name != NORM}
        log.write(done, {**means, NORM: recent[-1][NORM], "learning_rate": rate})
        return means

    def _check(self, step: int, gradient_norm: float) -> None:
        if math.isfinite(gradient_norm):
            self.skipped = 0
            return
        self.skipped += 1
        # The gradient scaler skips such a step and lowers its scale.
        if self.accelerator.mixed_precision == "fp16" and self.skipped <= MOST_SKIPPED:
            return
        checkpoint = last_checkpoint(self.checkpoints)
        kept = f"the checkpoint of step {checkpoint[1]} is kept" if checkpoint else "none was saved"
        raise TrainingError(
            problem=f"{self.name}: the loss became NaN or infinite at step {step}; {kept}.",
            fix=f"Lower '{self.rate}' and run again, or use --precision fp32; if that does not "
            "help, start again with --no-resume.",
        )
