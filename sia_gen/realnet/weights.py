"""Weights of the backbone: from a file, a Python package, or timm's hub."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import timm
import torch

from sia_gen.config.settings import PackageFile
from sia_gen.errors import ModelError
from sia_gen.images.listing import package_folder
from sia_gen.io.tensors import is_state_dict, not_finite, read_tensor_file
from sia_gen.realnet.backbone import Backbone

Weights = Mapping[str, torch.Tensor]


def load_backbone_weights(backbone: Backbone, name: str, source: PackageFile | str | None) -> None:
    """Fills a backbone with pretrained weights.

    Args:
        backbone: The network to fill.
        name: Its timm name.
        source: A file, a file of an installed package, or None for timm's own weights.

    Raises:
        ModelError: If the weights cannot be had or do not fit.
    """
    state = hub_weights(name) if source is None else file_weights(name, source)
    missing = backbone.features.load_state_dict(state, strict=False).missing_keys
    if missing:
        where = "timm" if source is None else weights_path(source)
        raise ModelError(
            problem=f"the weights for '{name}' from {where} lack the tensor '{missing[0]}'.",
            fix="Give weights of that network with --weights.",
        )


def hub_weights(name: str) -> Weights:
    """The pretrained weights of timm, downloaded or from its cache."""
    # The client warns of every retry; what counts is whether it comes to an end.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    print(f"fetching the weights of {name} from the hub or its cache", file=sys.stderr)
    try:
        weights: Weights = timm.create_model(name, pretrained=True).state_dict()
    # Without a network each client library between timm and the socket raises its own error.
    except Exception as error:
        raise ModelError(
            problem=f"cannot download the weights of '{name}' ({type(error).__name__}).",
            fix="Give a file (.safetensors or .pth) with --weights.",
        ) from error
    return weights


def file_weights(name: str, source: PackageFile | str) -> Weights:
    """The weights in a file, under the names timm gives them."""
    path = weights_path(source)
    state = read_tensors(path)
    expected = timm.create_model(name, pretrained=False).state_dict()
    if expected.keys() <= state.keys() or state.keys() <= expected.keys():
        return check_shapes(path, name, state, expected)
    return match_by_order(path, name, state, expected)


def weights_path(source: PackageFile | str) -> Path:
    """The file a recipe or option names."""
    if isinstance(source, PackageFile):
        path = package_folder(source.package) / source.file
    else:
        path = Path(source)
    if not path.is_file():
        raise ModelError(
            problem=f"there is no file of backbone weights {path}.", fix="Give one with --weights."
        )
    return path


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Reads safetensors or a PyTorch file; pickles that are more than tensors are refused."""
    content = read_tensor_file(path, "Give a .safetensors file or a PyTorch state_dict.")
    if not isinstance(content, dict) or not is_state_dict(content):
        raise ModelError(
            problem=f"{path} holds no state_dict.",
            fix="Give a file of named tensors with --weights.",
        )
    if name := not_finite(content):
        raise ModelError(
            problem=f"{path}: '{name}' has values that are not finite.",
            fix="Give undamaged weights with --weights.",
        )
    return content


def check_shapes(path: Path, name: str, state: Weights, expected: Weights) -> Weights:
    """Returns `state` if every tensor in it has the shape and kind that `expected` has."""
    for key in expected.keys() & state.keys():
        if state[key].is_floating_point() != expected[key].is_floating_point():
            raise ModelError(
                problem=f"{path}: '{key}' holds {state[key].dtype}, "
                f"'{name}' needs {expected[key].dtype}.",
                fix="Give weights of that network with --weights.",
            )
        if state[key].shape != expected[key].shape:
            raise ModelError(
                problem=f"{path}: '{key}' has shape {tuple(state[key].shape)}, "
                f"'{name}' needs {tuple(expected[key].shape)}.",
                fix="Give weights of that network with --weights.",
            )
    return state


def match_by_order(path: Path, name: str, state: Weights, expected: Weights) -> Weights:
    """Renames tensors of another implementation of the same network.

    It is the same if the tensors, in order, have equal shapes and equal last names.
    """
    same_length = len(state) == len(expected)
    for (ours, theirs), (key, value) in zip(expected.items(), state.items(), strict=False):
        same_name = ours.rpartition(".")[2] == key.rpartition(".")[2]
        if not same_length or not same_name or theirs.shape != value.shape:
            raise ModelError(
                problem=f"{path} does not hold the weights of '{name}': "
                f"'{key}' does not fit '{ours}' {tuple(theirs.shape)}.",
                fix="Give weights of that network with --weights.",
            )
    return dict(zip(expected, state.values(), strict=True))
