"""RRS, Reconstruction Residuals Selection: from residuals to an anomaly map (paper section 3.4)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Mode = Literal["both", "max", "mean", "random", "all"]
DECODER_RESIDUAL_LAYERS = 2


class ReconstructionResidualSelection(nn.Module):
    """Selects the most telling residual channels of every image and decodes them to logits.

    Args:
        channels: Number of residual channels of each block.
        num_max: Number of channels selected by their maximum over the image (small anomalies).
        num_mean: Number of channels selected by their mean over the image (large anomalies).
        mode: `both` criteria. The paper's ablations select `num_max + num_mean` channels by one
            criterion, `max` or `mean`, or at `random` once, or they use `all` channels.

    Raises:
        ValueError: If the blocks have fewer channels than it should select.
    """

    def __init__(
        self, channels: Sequence[int], num_max: int, num_mean: int, mode: Mode = "both"
    ) -> None:
        super().__init__()
        total, both = sum(channels), num_max + num_mean
        numbers = {"both": (num_max, num_mean), "max": (both, 0), "mean": (0, both)}
        self.num_max, self.num_mean = numbers.get(mode, (0, 0))
        fixed = {"random": both, "all": total}.get(mode, 0)
        if max(self.num_max, self.num_mean, fixed) > total:
            msg = f"RRS cannot take {max(self.num_max, self.num_mean, fixed)} of {total} channels"
            raise ValueError(msg)
        order = torch.randperm(total) if mode == "random" else torch.arange(total)
        # A buffer, because the choice is saved with the model.
        self.register_buffer("fixed", order[:fixed].sort().values)
        # Residuals of different layers differ in scale, so the ranking normalises them.
        # The momentum is the authors'; in PyTorch it is the weight of the newest batch.
        self.ranking_norm = nn.BatchNorm2d(total, momentum=0.9, affine=False)
        self.decoder = Decoder(self.num_max + self.num_mean + fixed)

    def forward(self, residuals: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decodes squared differences, one (B, C_i, H_i, W_i) per block, ascending in stride.

        The logits (normal, anomalous) are (B, 2, 2H, 2W), twice the resolution of the first block.
        """
        size = residuals[0].shape[-2:]
        aligned = torch.cat([resize(residual, size) for residual in residuals], dim=1)
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

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual_layers = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1, bias=False),
            )
            for _ in range(DECODER_RESIDUAL_LAYERS)
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


def resize(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resizes bilinearly with aligned corners, as the authors' code does."""
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=True)
