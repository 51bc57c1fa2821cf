"""How often a training waits for the device: seen on a CPU, by who looks at tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

# PyTorch's optimisers count their steps on the host, and look at that.
OPTIMISERS = "torch/optim/"


class Looks(TorchDispatchMode):
    """Counts the numbers that are taken out of tensors, in each step from its backward pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def count(self) -> None:
        frame = sys._getframe()
        while frame := frame.f_back:
            if OPTIMISERS in frame.f_code.co_filename:
                return
        if self.steps:
            self.steps[-1] += 1

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.count()
        return function(*args, **(kwargs or {}))


def looks_per_step(train: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors a training looks at, step by step, without what follows the last step."""
    looks, backward, tolist = Looks(), Accelerator.backward, torch.Tensor.tolist

    def step(*given: Any, **options: Any) -> None:
        looks.steps.append(0)
        backward(*given, **options)

    def whole(tensor: torch.Tensor) -> Any:
        looks.count()
        return tolist(tensor)

    monkeypatch.setattr(Accelerator, "backward", step)
    monkeypatch.setattr(torch.Tensor, "tolist", whole)
    with looks:
        train()
    return looks.steps[:-1]
