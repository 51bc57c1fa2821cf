"""The frozen feature extractor: any timm model, its layers chosen by stride or number."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self

import timm
import torch
from timm.layers import Format, PatchEmbed
from torch import nn
from torch.nn.functional import pad

from sia_gen.config.settings import PackageFile
from sia_gen.errors import ModelError, did_you_mean, first_line
from sia_gen.realnet.pretrained import load_into

MINIMUM_STD = 1e-3


class Backbone(nn.Module):
    """A frozen timm feature extractor with optional standardisation of every channel.

    `forward` takes RGB images (B, 3, H, W) in [0, 1] and returns one float tensor for each layer,
    (B, C_i, H / stride_i, W / stride_i). It is always in eval mode and keeps no gradients.

    Args:
        name: Name of a timm model.
        strides: Ascending strides of layers, each of which only one layer has.
        layers: Ascending numbers of layers in place of strides, from 0, or negative from the end.
        image_size: Side of the images in pixels; by default the size that the model is made for.
        reflect: Whether images are continued by their reflection on all sides, which the features
            then leave out; needs `strides`.

    Raises:
        ModelError: If timm has no such model, the model no such layer, or no layers of that size.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] | None = None,
        layers: Sequence[int] | None = None,
        image_size: int | None = None,
        *,
        reflect: bool = False,
    ) -> None:
        super().__init__()
        if (strides is None) == (layers is None):
            msg = "layers are chosen either by strides or by layers"
            raise ValueError(msg)
        self.name = name
        config = _config_of(name)
        side = image_size or config.input_size[-1]
        self.margin = _margin(max(strides), side) if reflect and strides else 0
        side += 2 * self.margin
        self.options = _options(config, side)
        reductions = _reductions(name, side)
        if layers is None:
            indices = _indices_of_strides(name, reductions, strides or ())
        else:
            indices = _indices_of_layers(name, len(reductions), layers)
        options = {"features_only": True, "out_indices": indices, **self.options}
        self.features = timm.create_model(name, **options)
        self.channels: list[int] = self.features.feature_info.channels()
        self.strides: list[int] = self.features.feature_info.reduction()
        scale = timm.data.resolve_data_config({}, model=self.features)
        self.register_buffer("image_mean", torch.tensor(scale["mean"])[:, None, None])
        self.register_buffer("image_std", torch.tensor(scale["std"])[:, None, None])
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
        if self.margin:
            normalised = pad(normalised, [self.margin] * 4, mode="reflect")
        features = self.features(normalised)
        if getattr(self.features, "output_fmt", None) == Format.NHWC:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self.margin:
            features = [
                _middle(feature, self.margin // stride)
                for feature, stride in zip(features, self.strides, strict=True)
            ]
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
        load_into(self.features, self.name, self.options, given)


def require_features(measured: Sequence[torch.Tensor]) -> None:
    """Raises `ModelError` unless these measurements of features are finite."""
    if not all(bool(values.isfinite().all()) for values in measured):
        raise ModelError(
            problem="the features of the backbone are NaN, or too large to compute with.",
            fix="Use --precision fp32; if that does not help, give other weights with --weights.",
        )


def _margin(stride: int, size: int) -> int:
    """Returns how many pixels to reflect: two cells of the coarsest features, less if few fit."""
    return stride * min(2, (size - 1) // stride)


def _middle(features: torch.Tensor, cells: int) -> torch.Tensor:
    """Cuts a margin off all sides of features (B, C, H, W)."""
    return features[..., cells:-cells, cells:-cells]


def _config_of(name: str) -> Any:
    """Returns timm's facts about the weights of a model; `ModelError` if there is no such model."""
    # timm raises for a tag of a model that does not have it.
    with suppress(RuntimeError):
        if timm.is_model(name) and (config := timm.get_pretrained_cfg(name)) is not None:
            return config
    known = [*timm.list_models(), *timm.list_pretrained()]
    raise ModelError(
        problem=f"there is no backbone '{name}'{did_you_mean(name, known)}.",
        fix="Give the name of a timm model as 'realnet.backbone'; timm.list_models() has them.",
    )


def _options(config: Any, side: int) -> dict[str, Any]:
    """Returns what a model needs to know of the size of images."""
    # Other models take images of any size, and know no such argument.
    return {"img_size": side} if config.fixed_input_size else {}


@lru_cache
def _reductions(name: str, side: int) -> tuple[int, ...]:
    """Returns the strides of all layers of a model, once it has taken an image of a size.

    A run loads a model in every step, so what is found is kept.
    """
    config = _config_of(name)
    try:
        with torch.device("meta"), torch.no_grad():
            outline = timm.create_model(name, features_only=True, **_options(config, side)).eval()
            _require_whole_patches(name, outline, side)
            outline(torch.empty(1, 3, side, side))
    except ModelError:
        raise
    # Each model refuses sizes in its own way.
    except Exception as error:
        raise ModelError(
            problem=f"backbone '{name}' does not serve for images of {side} x {side} pixels "
            f"({first_line(error).rstrip('.')}).",
            fix=f"Choose another 'realnet.image_size', such as {config.input_size[-1]}, "
            "or another backbone.",
        ) from error
    return tuple(layer["reduction"] for layer in outline.feature_info.info)


def _require_whole_patches(name: str, features: nn.Module, side: int) -> None:
    for module in features.modules():
        patch = module.patch_size[0] if isinstance(module, PatchEmbed) else 1
        if side % patch:
            smaller = side // patch * patch
            sizes = f"{smaller} or {smaller + patch}" if smaller else f"{patch}"
            raise ModelError(
                problem=f"backbone '{name}' takes patches of {patch} x {patch} pixels, but "
                f"'realnet.image_size' is {side}, not a multiple of {patch}.",
                fix=f"Use {sizes}.",
            )


def _indices_of_strides(
    name: str, reductions: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    for stride in strides:
        count = reductions.count(stride)
        if count == 0:
            raise ModelError(
                problem=f"backbone '{name}' has no layer of stride {stride}, but "
                f"{sorted(set(reductions))}.",
                fix="Choose 'realnet.strides' in the recipe among those, or layers by their "
                "numbers with 'realnet.layers'.",
            )
        if count > 1:
            raise ModelError(
                problem=f"backbone '{name}' has {count} layers of stride {stride}.",
                fix="Choose some by their numbers with 'realnet.layers' in place of "
                "'realnet.strides'.",
            )
    return tuple(map(reductions.index, strides))


def _indices_of_layers(name: str, count: int, layers: Sequence[int]) -> tuple[int, ...]:
    for layer in layers:
        if not -count <= layer < count:
            raise ModelError(
                problem=f"backbone '{name}' has no layer {layer}, but {count} layers.",
                fix=f"Choose 'realnet.layers' from 0 to {count - 1}, or from -{count} to -1.",
            )
    indices = [layer % count for layer in layers]
    if indices != sorted(set(indices)):
        raise ModelError(
            problem=f"'realnet.layers' {list(layers)} of backbone '{name}' do not ascend, they are "
            f"{indices}.",
            fix="Name each layer once, in ascending order.",
        )
    return tuple(indices)
