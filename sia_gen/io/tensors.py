"""Files of tensors that others made: read without running what else may be in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sia_gen.errors import ModelError, first_line

# Harmless classes that stand in for others, alone or each with the name of the other.
StandIns = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]
# What safetensors calls the types that weights have.
FLOATING = ("F64", "F32", "F16", "BF16")


def read_tensor_file(path: Path, fix: str, stand_ins: StandIns = ()) -> Any:
    """Reads a safetensors file, or what PyTorch saved.

    Args:
        path: The file; one named `.safetensors` is taken for nothing else.
        fix: What to give in its place.
        stand_ins: Classes that a pickle may make.

    Raises:
        ModelError: If it is damaged, or would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(stand_ins)):
            return torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged file makes the readers raise is whatever its bytes happen to mean.
    except Exception as error:
        raise refusal(path, error, fix) from error


def refusal(path: Path, error: Exception, fix: str) -> ModelError:
    """What to say of a file that cannot be read."""
    if called := what_it_calls(error):
        return ModelError(
            problem=f"{path} is refused: to load it would run '{called}'.",
            fix="It is damaged or no mere checkpoint; ask its source for a .safetensors file.",
        )
    return ModelError(
        problem=f"cannot read {path}, it is damaged or no checkpoint ({reason_of(error)}).", fix=fix
    )


def what_it_calls(error: Exception) -> str | None:
    """What a pickle that PyTorch refused would have called, if that is why."""
    called = re.search(r"GLOBAL ([\w.]+)", str(error))
    return called[1] if called else None


def reason_of(error: Exception) -> str:
    """Why tensors cannot be read, in a few words."""
    # PyTorch's own message advises to load the file unsafely.
    unsafe = isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error)
    return type(error).__name__ if unsafe else first_line(error).rstrip(".:")


def is_state_dict(content: object) -> bool:
    """Whether it is tensors by name, at least one."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(map(torch.is_tensor, content.values()))
    )


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor with a value that is NaN or infinite, if there is one."""
    return next((name for name, value in tensors.items() if not bool(value.isfinite().all())), None)


def misfit(
    path: Path, expected: Mapping[str, torch.Tensor], *, values: bool = True, unset: str = "NONE"
) -> str | None:
    """What is wrong with a safetensors file for a network, if anything is.

    Args:
        path: The file; of its tensors one at a time is in memory.
        expected: The tensors of the network, of any device.
        values: Whether to read the tensors, or their shapes alone.
        unset: How the names begin of those that may hold NaN.

    Raises:
        SafetensorError: If it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        found = set(file.keys())
        for name in sorted(expected.keys() ^ found):
            return f"its tensor '{name}' is {'unknown' if name in found else 'missing'}"
        for name, wanted in expected.items():
            head = file.get_slice(name)
            if list(head.get_shape()) != list(wanted.shape):
                return f"its tensor '{name}' is {head.get_shape()}, not {list(wanted.shape)}"
            if (head.get_dtype() in FLOATING) != wanted.is_floating_point():
                return f"its tensor '{name}' holds {head.get_dtype()}, not {wanted.dtype}"
            if not values or name.startswith(unset):
                continue
            if not bool(file.get_tensor(name).isfinite().all()):
                return f"its tensor '{name}' has values that are not finite"
    return None
