"""Watches the figures of a training, and stops it before divergence spoils a checkpoint."""

import math
from pathlib import Path

import torch
from accelerate import Accelerator

from sia_gen.errors import TrainingError
from sia_gen.train.checkpoints import last_checkpoint

# Half precision finds its loss scale by overshooting, which skips a few steps in a row.
MOST_SKIPPED = 25
STEPS_BETWEEN_LOOKS = 10
NORM = "gradient_norm"


class TrainingWatch:
    """Keeps the figures of steps on the device, and looks at them every few steps.

    A look waits for the GPU, which otherwise always has the next steps queued. So a training looks
    every `STEPS_BETWEEN_LOOKS` steps, and before it saves or shows anything.

    Args:
        name: Name of the model, for the error.
        checkpoints: Folder of its checkpoints.
        rate: Field of the recipe with the learning rate, for the error.
        accelerator: Accelerator of the training.
    """

    def __init__(self, name: str, checkpoints: Path, rate: str, accelerator: Accelerator) -> None:
        self.name = name
        self.checkpoints = checkpoints
        self.rate = rate
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
        """Returns the figures of each step since the last look, means over the processes.

        Args:
            done: The number of steps done, those of the last figures included.

        Raises:
            TrainingError: If gradients were not finite; it names the first such step.
        """
        rows = self.accelerator.reduce(torch.stack(self.rows), "mean").tolist()
        self.rows.clear()
        recent = [dict(zip(self.names, row, strict=True)) for row in rows]
        for step, figures in enumerate(recent, done - len(recent) + 1):
            self._check(step, figures[NORM])
        return recent

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
