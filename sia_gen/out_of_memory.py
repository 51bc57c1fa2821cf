"""Memory that ran out: what was too large for it, and which setting makes it smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sia_gen.errors import OptionError


@contextmanager
def explained_out_of_memory(problem: str, fix: str) -> Iterator[None]:
    """Turns an allocation that failed into an error that says what to change.

    Args:
        problem: What there was not enough memory for, a full sentence.
        fix: What takes less, a full sentence.

    Raises:
        OptionError: In place of what PyTorch raises.
    """
    try:
        yield
    except RuntimeError as error:
        on_cpu = "DefaultCPUAllocator" in str(error)
        if not (on_cpu or isinstance(error, torch.OutOfMemoryError)):
            raise
        raise OptionError(problem=problem, fix=fix) from error
