"""How large previews may be, so that they leave time for training."""

from __future__ import annotations

import time
from typing import Any

import torch

from sia_gen.diffusion import preview
from sia_gen.train.budget import Budget

LARGEST_SHARE = 0.25


class PreviewPlan:
    """Previews take at most `LARGEST_SHARE` of the minutes, by having fewer columns.

    Each column keeps all its steps, with fewer of which reconstructions would be off by more.

    Args:
        budget: Of the run; it keeps time for the last preview.
        columns: As many as there are images for.

    Attributes:
        columns: Of the previews of this run, 0 for none.
        seconds: What one of these takes, 0 while nothing is known.
    """

    def __init__(self, budget: Budget, columns: int) -> None:
        self.budget = budget
        self.columns = columns
        self.seconds = 0.0

    def estimate(self, unet: Any, steps: int) -> None:
        """Estimates previews of samples of `steps` steps by how long a network takes for images."""
        sizes = [self.columns >> halved for halved in range(self.columns.bit_length())]
        passes = len(preview.STRENGTHS) * steps + 2 * preview.INVERSION_STEPS
        # The first pass of all prepares what later ones have.
        forward_seconds(unet, 1)
        self.columns = 0
        for columns in reversed(sizes):
            seconds = passes * forward_seconds(unet, columns)
            if seconds > LARGEST_SHARE * self.budget.seconds:
                break
            self.set(columns, seconds)

    def on_the_way(self) -> int:
        """Columns of a preview in the middle of a run; 0 if time is kept for other things."""
        return self.columns if self.seconds <= self.budget.spare else 0

    def last(self) -> int:
        """Columns of the preview after the last checkpoint, 0 without time for it."""
        return self.within(self.budget.before_publishing)

    def within(self, seconds: float) -> int:
        """Columns of a preview that takes no longer; 0 if there is none."""
        columns = self.columns
        while columns and self.seconds * columns > seconds * self.columns:
            columns //= 2
        return columns

    def measured(self, columns: int, seconds: float) -> None:
        """Learns how long a preview took, which steps did not take."""
        self.budget.stepping += seconds
        self.set(self.columns, seconds * self.columns / columns)
        fewer = self.within(LARGEST_SHARE * self.budget.seconds)
        self.set(fewer, self.seconds * fewer / self.columns)

    def set(self, columns: int, seconds: float) -> None:
        """Plans previews of some columns that take some seconds, and keeps time for one."""
        self.columns, self.seconds = columns, seconds
        self.budget.preview = seconds


def forward_seconds(unet: Any, images: int) -> float:
    """How long a network takes for some images, all black."""
    config = unet.config
    shape = (images, config.in_channels, config.sample_size, config.sample_size)
    classes = torch.zeros(images, dtype=torch.int64, device=unet.device)
    labels = None if config.num_class_embeds is None else classes
    started = time.monotonic()
    with torch.no_grad():
        # Looking at the result waits for it.
        unet(torch.zeros(shape, device=unet.device), 0, class_labels=labels).sample.sum().item()
    return time.monotonic() - started
