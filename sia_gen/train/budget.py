"""The minutes that a run may take for a model: until it is saved, not until its last step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from sia_gen.train.divergence import STEPS_BETWEEN_LOOKS

# Times what follows the last step took before: it varies, and the model is published besides.
MARGIN = 1.5


class Budget:
    """Counts the time from when it is made; a run makes one per model before anything else.

    Until the end has been measured, half of the minutes are kept for it: a training that has come
    so far saves, and goes on with what is left.

    Args:
        minutes: That the run may take; None for as many as it needs.
        accelerator: Of the training; its first process decides for all.

    Attributes:
        end: Seconds that validating and saving take, None until `measured`.
        preview: Seconds that the last preview will take.
    """

    def __init__(self, minutes: float | None, accelerator: Accelerator) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.accelerator = accelerator
        self.end: float | None = None
        self.preview = 0.0
        self.started = time.monotonic()
        self.begin(0)

    @property
    def left(self) -> float:
        """Seconds that are left, below zero if too many were used."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def kept(self) -> float:
        """Seconds that are kept for what follows the last step."""
        if self.end is None:
            return 0.0 if math.isinf(self.seconds) else self.seconds / 2
        return MARGIN * (self.end + self.preview)

    @property
    def spare(self) -> float:
        """Seconds that are left beside those that are kept."""
        return self.left - self.kept

    @property
    def before_publishing(self) -> float:
        """Seconds that are left after the last checkpoint, beside those that publishing takes."""
        return self.left - (MARGIN - 1) * (self.end or 0)

    def begin(self, done: int) -> None:
        """The steps begin now, `done` of them by an earlier run."""
        self.stepping, self.first = time.monotonic(), done

    def exclude(self, done: int) -> None:
        """Takes the time since the steps began out of the count; they begin anew after `done`."""
        self.started += time.monotonic() - self.stepping
        self.begin(done)

    def is_up(self, done: int) -> bool:
        """Whether to end with step `done`, as a further one might take time that is kept.

        Several processes agree every `STEPS_BETWEEN_LOOKS` steps alone, as they wait for it.
        """
        if math.isinf(self.seconds):
            return False
        if self.accelerator.num_processes == 1:
            return self.spare < self.next_steps(done)
        if done % STEPS_BETWEEN_LOOKS:
            return False
        over = torch.tensor(int(self.spare < self.next_steps(done)))
        return bool(broadcast(over.to(self.accelerator.device)).item())

    def next_steps(self, done: int) -> float:
        """Seconds until this will be asked again and all steps up to then are done."""
        each = (time.monotonic() - self.stepping) / max(1, done - self.first)
        waits = self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1
        return each if waits else STEPS_BETWEEN_LOOKS * each

    @contextmanager
    def measured(self) -> Iterator[None]:
        """What is done in it will be done again at the end."""
        started = time.monotonic()
        yield
        self.end = time.monotonic() - started
        # The steps did not take it.
        self.stepping += self.end
