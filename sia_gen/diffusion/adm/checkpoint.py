"""Reads the tensors of a PyTorch checkpoint without running what else may be in the file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sia_gen.errors import ModelError
from sia_gen.io.tensors import StandIns, is_state_dict, not_finite, read_tensor_file

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
STAND_INS: StandIns = [
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
    content = read_tensor_file(path, FIX, STAND_INS)
    if not isinstance(content, Mapping):
        raise ModelError(problem=f"{path} holds no named tensors.", fix=FIX)
    return content


def find_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, wherever in it they are, named as in a single process.

    Raises:
        ModelError: If they are not tensors alone, or have values that are not finite.
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
    if name := not_finite(state):
        raise ModelError(
            problem=f"its tensor '{name}' has values that are not finite.",
            fix="Give an earlier checkpoint of that training, or another copy of the file.",
        )
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


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
