"""Reads the tensors of a PyTorch checkpoint without running what else may be in the file."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sia_gen.errors import ModelError, first_line

# Where trainers keep the weights; averaged ones come first.
KEYS = ("ema", "ema_state_dict", "state_dict", "model_state_dict", "model")
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
FIX = "Give a PyTorch checkpoint or a .safetensors file."


class Ignored:
    """Takes the place of an object that is not needed."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The RealNet authors save their settings and a NumPy number beside the weights. Harmless classes
# stand in for theirs, none of their code runs.
STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "easydict.EasyDict"),
    (Ignored, "numpy.core.multiarray.scalar"),
    (Ignored, "numpy._core.multiarray.scalar"),
    (Ignored, "numpy.dtype"),
]


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Reads a checkpoint, as it is in the file.

    Raises:
        ModelError: If there is none, or it is damaged, no checkpoint, or would run code.
    """
    if not path.is_file():
        raise ModelError(problem=f"there is no checkpoint {path}.", fix=FIX)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged file makes the readers raise is whatever its bytes happen to mean.
    except Exception as error:
        raise refusal(path, error) from error
    if not isinstance(content, Mapping):
        raise ModelError(problem=f"{path} holds no named tensors.", fix=FIX)
    return content


def refusal(path: Path, error: Exception) -> ModelError:
    """What to say of a file that cannot be read."""
    # PyTorch's own message advises to load the file unsafely.
    if called := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return ModelError(
            problem=f"{path} is refused: to load it would run '{called[1]}'.",
            fix="It is damaged or no mere checkpoint; ask its source for a .safetensors file.",
        )
    reason = (
        type(error).__name__ if isinstance(error, pickle.UnpicklingError) else first_line(error)
    )
    return ModelError(
        problem=f"cannot read {path}, it is damaged or no checkpoint ({reason}).", fix=FIX
    )


def find_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, wherever in it they are, named as in a single process.

    Raises:
        ModelError: If they are not tensors alone.
    """
    nested = [content[key] for key in KEYS if is_state_dict(content.get(key))]
    state = nested[0] if nested else content
    if not is_state_dict(state):
        others = [name for name, value in state.items() if not torch.is_tensor(value)]
        found = f" alone: '{others[0]}' is none" if others else ""
        raise ModelError(
            problem=f"the checkpoint holds no named tensors{found}.",
            fix=f"Have them at the top level, or under one of: {', '.join(KEYS)}.",
        )
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def is_state_dict(content: object) -> bool:
    """Whether it is tensors by name, at least one."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(map(torch.is_tensor, content.values()))
    )


def recorded_conventions(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the RealNet authors' training notes of a UNet that its tensors do not tell.

    Returns:
        Arguments of `convert_adm_state_dict`; none for other checkpoints.
    """
    settings = content.get("arch")
    unet = settings.get("unet") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or not isinstance(unet, Mapping):
        return {}
    heads = "num_heads" if unet.get("num_head_channels") == -1 else "num_head_channels"
    noted = {name: unet.get(name) for name in ("image_size", heads)}
    sampler = settings.get("TrainSampler")
    schedule = sampler.get("beta_scheduler") if isinstance(sampler, Mapping) else None
    return {
        **{name: value for name, value in noted.items() if isinstance(value, int)},
        # Their network knows no other order.
        "qkv_order": "interleaved",
        "beta_schedule": SCHEDULES.get(str(schedule)),
    }
