"""AFS, Anomaly-aware Features Selection: the channels that show anomalies best (section 3.2)."""

from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional


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


class ChannelLosses:
    """The mean AFS loss of every channel over batches, for all layers in one pass."""

    def __init__(self, channels: Sequence[int], device: torch.device) -> None:
        self.totals = [torch.zeros(count, dtype=torch.float64, device=device) for count in channels]
        self.batches = torch.zeros((), dtype=torch.float64, device=device)

    def update(
        self, anomalous: Iterable[torch.Tensor], normal: Iterable[torch.Tensor], mask: torch.Tensor
    ) -> None:
        """Adds a batch of features (B, C_i, H_i, W_i) with its masks (B, 1, H, W) in {0, 1}."""
        for total, with_anomaly, without in zip(self.totals, anomalous, normal, strict=True):
            total += channel_loss(with_anomaly, without, mask).double()
        self.batches += 1

    def reduce(self, accelerator: Accelerator) -> None:
        """Adds up the batches of all processes; every process must call it."""
        self.totals = [accelerator.reduce(total, "sum") for total in self.totals]
        self.batches = accelerator.reduce(self.batches, "sum")

    def mean(self) -> list[torch.Tensor]:
        """Returns the mean loss per layer, each (C_i,), float32."""
        return [(total / self.batches).float() for total in self.totals]


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
