"""The two selections of channels: AFS once before training, RRS for every image.

AFS, Anomaly-aware Features Selection, keeps the features that show anomalies best (paper section
3.2). RRS, Reconstruction Residuals Selection, turns residuals into an anomaly map (section 3.4).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from sia_gen.errors import ModelError

Mode = Literal["both", "max", "mean", "random", "all"]
DECODER_RESIDUAL_LAYERS = 2


class AnomalyAwareFeatureSelection(nn.Module):
    """Keeps `kept` of the `channels` of every layer, chosen once before training.

    The chosen indices and the loss of every channel are buffers, so they are saved with the model.
    Until `select` has run, the first channels are kept and all losses are NaN.
    """

    def __init__(self, channels: Sequence[int], kept: Sequence[int]) -> None:
        super().__init__()
        self.kept = [min(keep, total) for keep, total in zip(kept, channels, strict=True)]
        for layer, (total, keep) in enumerate(zip(channels, self.kept, strict=True)):
            self.register_buffer(f"indices_{layer}", torch.arange(keep))
            self.register_buffer(f"losses_{layer}", torch.full((total,), torch.nan))

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Selects the chosen channels: (B, C_i, H_i, W_i) -> (B, kept_i, H_i, W_i)."""
        return [
            feature.index_select(1, self.get_buffer(f"indices_{layer}"))
            for layer, feature in enumerate(features)
        ]

    @torch.no_grad()
    def select(self, losses: Sequence[torch.Tensor]) -> None:
        """Chooses the channels with the lowest losses; `losses` has (C_i,) per layer."""
        for layer, (loss, keep) in enumerate(zip(losses, self.kept, strict=True)):
            chosen = loss.topk(keep, largest=False).indices.sort().values
            self.get_buffer(f"indices_{layer}").copy_(chosen)
            self.get_buffer(f"losses_{layer}").copy_(loss)

    def is_valid(self) -> bool:
        """Returns whether all chosen channels exist."""
        layers = range(len(self.kept))
        pairs = [(self.get_buffer(f"indices_{i}"), self.get_buffer(f"losses_{i}")) for i in layers]
        return all(int(kept.min()) >= 0 and int(kept.max()) < len(all_) for kept, all_ in pairs)


def channel_losses(
    anomalous: Sequence[torch.Tensor], normal: Sequence[torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """Returns the `channel_loss` of all layers (B, C_i, H_i, W_i), joined: (C,), float64."""
    pairs = zip(anomalous, normal, strict=True)
    return torch.cat([channel_loss(a, n, mask).double() for a, n in pairs])


def channel_loss(anomalous: torch.Tensor, normal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Measures how badly each channel's squared difference of features shows the anomaly.

    Features of the same images with and without the anomaly are (B, C, H, W), the mask of the
    anomaly is (B, 1, h, w), values 0 and 1. The loss, (C,), is the mean squared error between the
    difference, scaled to [0, 1] over the batch, and the mask, resized by nearest neighbour.
    """
    difference = (anomalous - normal).square().transpose(0, 1).flatten(1)
    lowest = difference.amin(dim=1, keepdim=True)
    highest = difference.amax(dim=1, keepdim=True)
    scaled = (difference - lowest) / (highest - lowest + 1e-4)
    target = functional.interpolate(mask, size=anomalous.shape[-2:], mode="nearest").flatten()
    return (scaled - target).square().mean(dim=1)


class ReconstructionResidualSelection(nn.Module):
    """Selects the most telling residual channels of every image and decodes them to logits.

    Args:
        channels: Number of residual channels of each block, together at least those selected.
        num_max: Number of channels selected by their maximum over the image (small anomalies).
        num_mean: Number of channels selected by their mean over the image (large anomalies).
        mode: `both` criteria. The paper's ablations select `num_max + num_mean` channels by one
            criterion, `max` or `mean`, or at `random` once, or they use `all` channels.
        decoder_layers: Number of residual layers of the decoder.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_max: int,
        num_mean: int,
        mode: Mode = "both",
        decoder_layers: int = DECODER_RESIDUAL_LAYERS,
    ) -> None:
        super().__init__()
        total, both = sum(channels), num_max + num_mean
        numbers = {"both": (num_max, num_mean), "max": (both, 0), "mean": (0, both)}
        self.num_max, self.num_mean = numbers.get(mode, (0, 0))
        fixed = {"random": both, "all": total}.get(mode, 0)
        if max(self.num_max, self.num_mean, fixed) > total:
            wanted = max(self.num_max, self.num_mean, fixed)
            raise ModelError(
                problem=f"RRS cannot take {wanted} of the {total} channels that AFS keeps.",
                fix="Lower 'realnet.num_max' and 'realnet.num_mean', or raise "
                "'realnet.channels_kept'.",
            )
        order = torch.randperm(total) if mode == "random" else torch.arange(total)
        # A buffer, because the choice is saved with the model.
        self.register_buffer("fixed", order[:fixed].sort().values)
        # Residuals of different layers differ in scale, so the ranking normalises them.
        # The momentum is the authors'; in PyTorch it is the weight of the newest batch.
        self.ranking_norm = nn.BatchNorm2d(total, momentum=0.9, affine=False)
        self.decoder = Decoder(self.num_max + self.num_mean + fixed, decoder_layers)

    def forward(self, residuals: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decodes squared differences, one (B, C_i, H_i, W_i) per block.

        The logits (normal, anomalous) are (B, 2, 2H, 2W), twice the resolution of the finest block.
        """
        aligned = align(residuals, max(tuple(block.shape[-2:]) for block in residuals))
        chosen = select_channels(aligned, self.channel_indices(aligned))
        logits: torch.Tensor = self.decoder(chosen)
        return logits

    @torch.no_grad()
    def channel_indices(self, residual: torch.Tensor) -> torch.Tensor:
        """Returns the channels selected per image, (B, K), int64: by maximum, by mean, fixed."""
        ranked = self.ranking_norm(residual)
        by_max = ranked.amax(dim=(2, 3)).topk(self.num_max, dim=1).indices
        by_mean = ranked.mean(dim=(2, 3)).topk(self.num_mean, dim=1).indices
        fixed = self.get_buffer("fixed").expand(residual.shape[0], -1)
        return torch.cat([by_max, by_mean, fixed], dim=1)


class Decoder(nn.Module):
    """Decodes the selected residuals (B, C, H, W) to two-class logits (B, 2, 2H, 2W)."""

    def __init__(self, channels: int, residual_layers: int = DECODER_RESIDUAL_LAYERS) -> None:
        super().__init__()
        self.residual_layers = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1, bias=False),
            )
            for _ in range(residual_layers)
        )
        self.coarse = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, 128, 3, padding=1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 8, 3, padding=1),
            nn.ReLU(),
        )
        self.fine = nn.Sequential(
            nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
        )

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """Returns logits (B, 2, 2H, 2W) for residuals (B, C, H, W)."""
        for layer in self.residual_layers:
            residual = residual + layer(residual)
        hidden_states = self.coarse(residual)
        height, width = hidden_states.shape[-2:]
        logits: torch.Tensor = self.fine(resize(hidden_states, (2 * height, 2 * width)))
        return logits


def select_channels(residual: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Gathers the channels `indices` (B, K) of each image of `residual` (B, C, H, W)."""
    height, width = residual.shape[-2:]
    return residual.gather(1, indices[:, :, None, None].expand(-1, -1, height, width))


def align(features: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Concatenates features, each (B, C_i, H_i, W_i), in one size: (B, C, *size)."""
    return torch.cat([resize(feature, size) for feature in features], dim=1)


def resize(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resizes bilinearly with aligned corners, as the authors' code does."""
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=True)
