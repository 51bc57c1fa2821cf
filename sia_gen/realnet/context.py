"""A decoder that follows lines: it sees the features themselves, and far around every pixel.

A residual says how far a patch is from normal ones, not what it looks like, so a decoder of
residuals cannot tell a faint crack from the grain of the surface. Pieces of a line that lie in a
row, each no stranger than the grain, are a crack together.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate, relu

WIDTH = 48
# Distances between the places that a convolution compares.
DILATIONS = (1, 2, 4, 8)
# Log odds of an anomaly before anything is learned: most pixels are normal.
RARE = -3.0


class ContextDecoder(nn.Module):
    """Decodes features of several strides, (B, C_i, H_i, W_i), the finest first, to logits.

    Args:
        channels: Number of channels of each.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        half = WIDTH // 2
        self.narrow = nn.ModuleList(nn.Conv2d(count, half, 1) for count in channels)
        self.mix = nn.Conv2d(half * len(channels), WIDTH, 1)
        self.blocks = nn.ModuleList(_block(distance) for distance in DILATIONS)
        self.out = nn.Conv2d(WIDTH, 2, 3, padding=1)
        with torch.no_grad():
            torch.as_tensor(self.out.bias).copy_(torch.tensor([0.0, RARE]))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns the logits of normal and anomalous, (B, 2, H, W), in the size of the first."""
        narrow = [layer(one) for layer, one in zip(self.narrow, features, strict=True)]
        size = narrow[0].shape[-2:]
        aligned = [interpolate(one, size=size, mode="bilinear") for one in narrow]
        hidden_states = relu(self.mix(torch.cat(aligned, dim=1)))
        for block in self.blocks:
            hidden_states = hidden_states + block(hidden_states)
        logits: torch.Tensor = self.out(relu(hidden_states))
        return logits


def _block(distance: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=distance, dilation=distance, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 1),
    )
