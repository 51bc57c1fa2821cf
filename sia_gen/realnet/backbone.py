"""The frozen feature extractor: any timm model, its layers chosen by stride, and its weights."""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import timm
import torch
from torch import nn

from sia_gen.config.settings import PackageFile
from sia_gen.errors import ModelError, did_you_mean
from sia_gen.images.listing import package_folder
from sia_gen.io.tensors import is_state_dict, not_finite, read_tensor_file

MINIMUM_STD = 1e-3

Weights = Mapping[str, torch.Tensor]


class Backbone(nn.Module):
    """A frozen timm feature extractor with optional standardisation of every channel.

    `forward` takes RGB images (B, 3, H, W) in [0, 1] and returns one float tensor for each of the
    ascending strides, (B, C_i, H / stride_i, W / stride_i). It is always in eval mode and keeps no
    gradients. A `ModelError` says if timm has no such model, or the model no such layer.
    """

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        if not timm.is_model(name):
            raise ModelError(
                problem=f"there is no backbone '{name}'{did_you_mean(name, timm.list_models())}.",
                fix="Give the name of a timm model as 'realnet.backbone'; timm.list_models() has "
                "them.",
            )
        reductions = timm.create_model(name, features_only=True).feature_info.reduction()
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise ModelError(
                problem=f"backbone '{name}' has no layer of stride {missing[0]}, but {reductions}.",
                fix="Choose 'realnet.strides' in the recipe among those.",
            )
        indices = tuple(reductions.index(stride) for stride in strides)
        self.features = timm.create_model(name, features_only=True, out_indices=indices)
        self.channels: list[int] = self.features.feature_info.channels()
        config = timm.data.resolve_data_config({}, model=self.features)
        self.register_buffer("image_mean", torch.tensor(config["mean"])[:, None, None])
        self.register_buffer("image_std", torch.tensor(config["std"])[:, None, None])
        for layer, channels in enumerate(self.channels):
            self.register_buffer(f"mean_{layer}", torch.zeros(channels, 1, 1))
            self.register_buffer(f"std_{layer}", torch.ones(channels, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the statistics of its BatchNorm layers must not move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the features of images (B, 3, H, W), one tensor per layer."""
        normalised = (images - self.get_buffer("image_mean")) / self.get_buffer("image_std")
        features = self.features(normalised)
        return [
            (feature - self.get_buffer(f"mean_{layer}")) / self.get_buffer(f"std_{layer}")
            for layer, feature in enumerate(features)
        ]

    @torch.no_grad()
    def standardise(self, batches: Iterable[Sequence[torch.Tensor]]) -> None:
        """Scales every channel to mean 0 and deviation 1 over features, as `forward` returns them.

        A deviation below `MINIMUM_STD` counts as that.
        """
        device = self.get_buffer("image_mean").device
        # Number, sum and sum of the squares of the values of every channel.
        sums = [torch.zeros(3, size, dtype=torch.float64, device=device) for size in self.channels]
        for features in batches:
            for counted, feature in zip(sums, features, strict=True):
                values = feature.transpose(0, 1).flatten(1).double()
                counted[0] += values.shape[1]
                counted[1] += values.sum(dim=1)
                counted[2] += values.square().sum(dim=1)
        require_features(sums)
        for layer, (count, total, squares) in enumerate(sums):
            mean = total / count
            std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=MINIMUM_STD)
            self.get_buffer(f"mean_{layer}").copy_(mean[:, None, None])
            self.get_buffer(f"std_{layer}").copy_(std[:, None, None])

    def load_weights(self, given: PackageFile | str | None) -> None:
        """Loads pretrained weights from a file, a file of a package, or timm if None is given."""
        path = None if given is None else weights_path(given)
        state = _hub_weights(self.name) if path is None else _file_weights(self.name, path)
        missing = self.features.load_state_dict(state, strict=False).missing_keys
        if missing:
            problem = f"the weights for '{self.name}' from {path or 'timm'} lack the tensor"
            raise _misfit(problem=f"{problem} '{missing[0]}'")


def require_features(measured: Sequence[torch.Tensor]) -> None:
    """Raises `ModelError` unless these measurements of features are finite."""
    if not all(bool(values.isfinite().all()) for values in measured):
        raise ModelError(
            problem="the features of the backbone are NaN, or too large to compute with.",
            fix="Use --precision fp32; if that does not help, give other weights with --weights.",
        )


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


def _hub_weights(name: str) -> Weights:
    # The client warns of every retry, even if one of them succeeds.
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


def _file_weights(name: str, path: Path) -> Weights:
    """Returns the weights in a file under the names that timm gives them."""
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
    with torch.device("meta"):
        expected = timm.create_model(name, pretrained=False).state_dict()
    if expected.keys() <= state.keys() or state.keys() <= expected.keys():
        for key in expected.keys() & state.keys():
            found, needed = state[key], expected[key]
            if found.is_floating_point() != needed.is_floating_point():
                kinds = f"holds {found.dtype}, '{name}' needs {needed.dtype}"
                raise _misfit(problem=f"{path}: '{key}' {kinds}")
            if found.shape != needed.shape:
                shapes = f"has shape {tuple(found.shape)}, '{name}' needs {tuple(needed.shape)}"
                raise _misfit(problem=f"{path}: '{key}' {shapes}")
        return state
    return _renamed_by_order(path, name, state, expected)


def _renamed_by_order(path: Path, name: str, state: Weights, expected: Weights) -> Weights:
    """Renames tensors of another implementation of the same network.

    It is the same if the tensors, in order, have equal shapes and equal last names.
    """
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
