"""Memory that runs out is one line, which says what to change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import pytest
import torch

from sia_gen.errors import ModelError, OptionError
from sia_gen.io.refusals import explained_out_of_memory


class AcceleratorError(RuntimeError):
    """As that of PyTorch, which needs an accelerator to be made."""


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.OutOfMemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.77 GB, other allocations: 1 MB)."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"),
    AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("DataLoader worker is killed: workers are out of shared memory."),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
]


def explained() -> AbstractContextManager[None]:
    return explained_out_of_memory("It is too much.", "Take less.")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_running_out_of_memory_says_what_to_change(error: Exception) -> None:
    with pytest.raises(OptionError, match=r"It is too much\. Take less\."), explained():
        raise error


@pytest.mark.parametrize(
    "allocate",
    [partial(torch.empty, 2**60, dtype=torch.uint8), partial(np.empty, 2**60, dtype=np.uint8)],
)
def test_a_real_allocation_that_fails_is_explained(allocate: Callable[[], object]) -> None:
    with pytest.raises(OptionError, match="Take less"), explained():
        allocate()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), explained():
        torch.zeros(2, 2) @ torch.zeros(3)
    with pytest.raises(ModelError, match="of memory"), explained():
        raise ModelError(problem="it ran out of memory.", fix="Take less.")
