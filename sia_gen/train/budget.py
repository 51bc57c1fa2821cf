"""The time limit of a run for one model: until the model is saved, not until its last step."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from sia_gen.train.divergence import STEPS_BETWEEN_LOOKS

# Reserve for the work after the last step, as a multiple of its last duration, which varies.
_MARGIN = 1.5


class Budget:
    """Measures the time since it was made, which a run does first of all for each model.

    Until `measured` has measured the work after the last step, half of the time is reserved for it.
    A training that has used the other half saves its model, and goes on with the rest.

    Args:
        minutes: Time limit; None for no limit.
        accelerator: Accelerator of the training; its first process decides for all.

    Attributes:
        seconds: Time limit, infinite for none.
        end: Seconds that validation and saving take, None until `measured`.
        preview: Seconds that the last preview will take.
        stepping: When the steps began, on the monotonic clock, plus interruptions.
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
        """Seconds left, negative beyond the limit."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def spare(self) -> float:
        """Seconds left for steps, without those reserved for the work after the last step."""
        if self.end is not None:
            return self.left - _MARGIN * (self.end + self.preview)
        return self.left - (0.0 if math.isinf(self.seconds) else self.seconds / 2)

    @property
    def before_publishing(self) -> float:
        """Seconds left after the last checkpoint, without those that saving the model takes."""
        return self.left - (_MARGIN - 1) * (self.end or 0)

    def begin(self, done: int) -> None:
        """Marks the beginning of the steps, of which an earlier run has done some."""
        self.stepping, self.first = time.monotonic(), done

    def exclude(self, done: int) -> None:
        """Takes the time since the beginning of the steps out of the count, and begins again."""
        self.started += time.monotonic() - self.stepping
        self.begin(done)

    def is_up(self, done: int) -> bool:
        """Returns whether to stop after `done` steps because more would take reserved time.

        Several processes wait for each other to agree, so they do it every `STEPS_BETWEEN_LOOKS`
        steps.
        """
        if math.isinf(self.seconds):
            return False
        if self.accelerator.num_processes == 1:
            return self.spare < self._next_steps(done)
        if done % STEPS_BETWEEN_LOOKS:
            return False
        over = torch.tensor(int(self.spare < self._next_steps(done)))
        return bool(broadcast(over.to(self.accelerator.device)).item())

    def _next_steps(self, done: int) -> float:
        """Seconds that the steps until the next call of `is_up` take."""
        each = (time.monotonic() - self.stepping) / max(1, done - self.first)
        waits = self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1
        return each if waits else STEPS_BETWEEN_LOOKS * each

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measures work that will be repeated after the last step."""
        started = time.monotonic()
        yield
        self.end = time.monotonic() - started
        self.stepping += self.end
