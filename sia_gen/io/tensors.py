"""Reads tensors from untrusted files without running any code in them."""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sia_gen.errors import ModelError, first_line

# Harmless classes that take the place of others, alone or with the name of the other class.
StandIns = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]
# The floating-point types of safetensors.
_FLOATING = ("F64", "F32", "F16", "BF16")


def read_tensor_file(path: Path, fix: str, stand_ins: StandIns = ()) -> Any:
    """Reads a safetensors file, if the name ends in `.safetensors`, or a PyTorch checkpoint.

    A pickle may instantiate the `stand_ins`; `fix` says what to give instead of a damaged file.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(stand_ins)):
            return torch.load(path, map_location="cpu", weights_only=True)
    # The bytes of a damaged file can raise anything.
    except Exception as error:
        if called := what_it_calls(error):
            raise ModelError(
                problem=f"{path} is refused: loading it would run '{called}'.",
                fix="It is damaged or more than a checkpoint; ask its source for a .safetensors "
                "file.",
            ) from error
        raise ModelError(
            problem=f"cannot read {path}, it is damaged or no checkpoint ({reason_of(error)}).",
            fix=fix,
        ) from error


def what_it_calls(error: Exception) -> str | None:
    """Returns what a pickle would have called, if PyTorch refused it for that reason."""
    called = re.search(r"GLOBAL ([\w.]+)", str(error))
    return called[1] if called else None


def reason_of(error: Exception) -> str:
    """Returns in a few words why tensors cannot be read."""
    # PyTorch's own message advises loading the file unsafely.
    unsafe = isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error)
    return type(error).__name__ if unsafe else first_line(error).rstrip(".:")


def is_state_dict(content: object) -> bool:
    """Returns whether it is a mapping of names to tensors, with at least one."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(map(torch.is_tensor, content.values()))
    )


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Returns the name of the first tensor with a value that is NaN or infinite, if any."""
    return next((name for name, value in tensors.items() if not bool(value.isfinite().all())), None)


def misfit(
    path: Path, expected: Mapping[str, torch.Tensor], *, values: bool = True, unset: str = "NONE"
) -> str | None:
    """Returns the first problem of a safetensors file for a network with some tensors, if any.

    With `values` it reads them too, one tensor at a time; those with the prefix `unset` may be NaN.
    """
    with safe_open(path, framework="pt") as file:
        found = set(file.keys())
        for name in sorted(expected.keys() ^ found):
            return f"its tensor '{name}' is {'unknown' if name in found else 'missing'}"
        for name, wanted in expected.items():
            head = file.get_slice(name)
            if list(head.get_shape()) != list(wanted.shape):
                return f"its tensor '{name}' is {head.get_shape()}, not {list(wanted.shape)}"
            if (head.get_dtype() in _FLOATING) != wanted.is_floating_point():
                return f"its tensor '{name}' holds {head.get_dtype()}, not {wanted.dtype}"
            if not values or name.startswith(unset):
                continue
            if not bool(file.get_tensor(name).isfinite().all()):
                return f"its tensor '{name}' has values that are not finite"
    return None
