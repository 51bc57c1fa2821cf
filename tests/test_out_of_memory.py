"""Memory that runs out is one line, which says what to change."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch

from sia_gen.errors import OptionError
from sia_gen.out_of_memory import explained_out_of_memory

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
]


def explained() -> AbstractContextManager[None]:
    return explained_out_of_memory("It is too much.", "Take less.")


@pytest.mark.parametrize("error", ERRORS)
def test_running_out_of_memory_says_what_to_change(error: Exception) -> None:
    with pytest.raises(OptionError, match=r"It is too much\. Take less\."), explained():
        raise error


def test_a_real_allocation_that_fails_is_explained() -> None:
    with pytest.raises(OptionError, match="Take less"), explained():
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), explained():
        torch.zeros(2, 2) @ torch.zeros(3)
