"""The frozen feature extractor: any timm model, layers chosen by their stride."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from torch import nn

from sia_gen.errors import ModelError, did_you_mean

MINIMUM_STD = 1e-3


class Backbone(nn.Module):
    """A frozen timm feature extractor with optional standardisation of every channel.

    Args:
        name: A timm model name, e.g. `wide_resnet50_2`.
        strides: Strides of the layers to return, ascending, e.g. (4, 8, 16, 32).

    `forward` takes RGB images (B, 3, H, W) in [0, 1] and returns one float tensor per layer,
    (B, C_i, H / stride_i, W / stride_i). It is always in eval mode and keeps no gradients.
    """

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        reductions = layers_of(name)
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise ModelError(
                problem=f"backbone '{name}' has no layer of stride {missing[0]}, but {reductions}.",
                fix="Choose 'realnet.strides' in the recipe among those.",
            )
        self.features = timm.create_model(
            name,
            features_only=True,
            out_indices=tuple(reductions.index(stride) for stride in strides),
        )
        self.channels: list[int] = self.features.feature_info.channels()
        config = timm.data.resolve_data_config({}, model=self.features)
        self.register_buffer("image_mean", torch.tensor(config["mean"])[:, None, None])
        self.register_buffer("image_std", torch.tensor(config["std"])[:, None, None])
        for layer, channels in enumerate(self.channels):
            self.register_buffer(f"mean_{layer}", torch.zeros(channels, 1, 1))
            self.register_buffer(f"std_{layer}", torch.ones(channels, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode: the statistics of its BatchNorm layers must not move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The features of images (B, 3, H, W), one tensor per layer."""
        normalised = (images - self.get_buffer("image_mean")) / self.get_buffer("image_std")
        features = self.features(normalised)
        return [
            (feature - self.get_buffer(f"mean_{layer}")) / self.get_buffer(f"std_{layer}")
            for layer, feature in enumerate(features)
        ]

    @torch.no_grad()
    def standardise(self, statistics: FeatureStatistics) -> None:
        """From now on, gives every channel the mean 0 and the deviation 1 of `statistics`."""
        for layer, (mean, std) in enumerate(statistics.mean_and_std()):
            self.get_buffer(f"mean_{layer}").copy_(mean[:, None, None])
            self.get_buffer(f"std_{layer}").copy_(std[:, None, None])


def layers_of(name: str) -> list[int]:
    """The strides of the layers that a timm model gives the features of.

    Raises:
        ModelError: If there is no such model.
    """
    if not timm.is_model(name):
        raise ModelError(
            problem=f"there is no backbone '{name}'{did_you_mean(name, timm.list_models())}.",
            fix="Give the name of a timm model as 'realnet.backbone'; timm.list_models() has them.",
        )
    return list(timm.create_model(name, features_only=True).feature_info.reduction())


def require_features(measured: Sequence[torch.Tensor]) -> None:
    """Raises `ModelError` unless what was measured of the features is finite."""
    if not all(bool(values.isfinite().all()) for values in measured):
        raise ModelError(
            problem="the features of the backbone are NaN, or too large to compute with.",
            fix="Use --precision fp32; if that does not help, give other weights with --weights.",
        )


class FeatureStatistics:
    """Mean and standard deviation of every channel of every layer, gathered batch by batch."""

    def __init__(self, channels: Sequence[int], device: torch.device) -> None:
        self.sums = [
            torch.zeros(3, count, dtype=torch.float64, device=device) for count in channels
        ]

    def update(self, features: Sequence[torch.Tensor]) -> None:
        """Adds the features of a batch, each (B, C_i, H_i, W_i)."""
        for sums, feature in zip(self.sums, features, strict=True):
            values = feature.transpose(0, 1).flatten(1).double()
            sums[0] += values.shape[1]
            sums[1] += values.sum(dim=1)
            sums[2] += values.square().sum(dim=1)

    def mean_and_std(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per layer the mean and deviation, each (C_i,); a constant channel gets `MINIMUM_STD`.

        Raises:
            ModelError: If there are none, because features are NaN or too large.
        """
        result = []
        require_features(self.sums)
        for count, total, squares in self.sums:
            mean = total / count
            std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=MINIMUM_STD)
            result.append((mean.float(), std.float()))
        return result
