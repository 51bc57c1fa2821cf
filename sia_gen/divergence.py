"""Stops a training that diverges, before it spoils its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from sia_gen.checkpoints import last_checkpoint
from sia_gen.errors import TrainingError

# In half precision the loss scale is found by overshooting: a few steps in a row are skipped.
MOST_SKIPPED = 25


class DivergenceGuard:
    """Watches the norm of the gradients, which is the same in every process.

    Args:
        name: Of the model, for the error.
        checkpoints: Folder of its checkpoints.
        rate: The field of the recipe with the learning rate, for the error.
    """

    def __init__(self, name: str, checkpoints: Path, rate: str) -> None:
        self.name = name
        self.checkpoints = checkpoints
        self.rate = rate
        self.skipped = 0

    def check(self, step: int, gradient_norm: torch.Tensor | float, *, precision: str) -> None:
        """To be called after each backward pass, before the optimiser.

        Raises:
            TrainingError: If the gradients are not finite.
        """
        if math.isfinite(gradient_norm):
            self.skipped = 0
            return
        self.skipped += 1
        # The gradient scaler skips such a step by itself, and lowers its scale.
        if precision == "fp16" and self.skipped <= MOST_SKIPPED:
            return
        checkpoint = last_checkpoint(self.checkpoints)
        kept = f"the checkpoint of step {checkpoint[1]} is kept" if checkpoint else "none was saved"
        raise TrainingError(
            problem=f"{self.name}: the loss became NaN or infinite at step {step + 1}; {kept}.",
            fix=f"Lower '{self.rate}' and run again, or use --precision fp32; if that does not "
            "help, start anew with --no-resume.",
        )
