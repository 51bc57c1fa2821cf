"""The UNet that reconstructs the normal features of one block (paper section 3.3).

Its structure is that of the authors' code: residual blocks of one convolution, self-attention where
the features are 2 and 4 times smaller, and a skip connection from every block of the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from diffusers.models.attention_processor import Attention
from torch import nn
from torch.nn import functional

# Number of channels of each resolution, as multiples of the width.
MULTIPLIERS = (1, 2, 4)
# Residual blocks per resolution of the encoder; the decoder has one more.
LAYERS_PER_BLOCK = 2
# Resolutions with self-attention; the features of level n are 2**n times smaller.
ATTENTION_LEVELS = (1, 2)
# Channels of an attention head.
HEAD_CHANNELS = 64


class ResidualBlock(nn.Module):
    """Group norm, SiLU and a convolution beside a shortcut, then self-attention if asked for.

    A block that resamples halves features by their mean, or doubles them by a transposed
    convolution, on both of its paths.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        attention: bool = False,
        resample: Literal["down", "up"] | None = None,
        norm_groups: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups or _norm_groups(in_channels), in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.resample = resample
        self.resample_hidden = _resampler(in_channels, resample)
        self.resample_input = _resampler(in_channels, resample)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.attention = nn.Identity()
        if attention:
            self.attention = _attention(out_channels, norm_groups or _norm_groups(out_channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns (B, out_channels, H, W) for (B, in_channels, H, W), H and W resampled."""
        hidden_states = self.resample_hidden(functional.silu(self.norm(features)))
        shortcut = self.shortcut(self.resample_input(features))
        output: torch.Tensor = self.attention(shortcut + self.conv(hidden_states))
        return output


class ReconstructionUNet(nn.Module):
    """Reconstructs the features of a normal image from those of an anomalous one.

    `forward` takes and returns float tensors of shape (B, channels, H, W), of any H and W. `width`
    is the number of channels of the highest resolution; the paper uses half of those of the block.
    `Structure` describes the other arguments.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        multipliers: Sequence[float] = MULTIPLIERS,
        attention_levels: Sequence[int] = ATTENTION_LEVELS,
        layers_per_block: int = LAYERS_PER_BLOCK,
        norm_groups: int | None = None,
    ) -> None:
        super().__init__()
        residual_block = partial(ResidualBlock, norm_groups=norm_groups)
        widths = [int(width * multiplier) for multiplier in multipliers]
        last = len(widths) - 1
        self.multiple = 2**last
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)

        current, skips = widths[0], [widths[0]]
        self.down_blocks = nn.ModuleList()
        for level, out_channels in enumerate(widths):
            for _ in range(layers_per_block):
                attention = level in attention_levels
                self.down_blocks.append(residual_block(current, out_channels, attention=attention))
                current = out_channels
                skips.append(current)
            if level != last:
                self.down_blocks.append(residual_block(current, current, resample="down"))
                skips.append(current)

        self.mid_block = nn.Sequential(
            residual_block(current, current, attention=True), residual_block(current, current)
        )

        self.up_blocks = nn.ModuleList()
        for level, out_channels in reversed(list(enumerate(widths))):
            for _ in range(layers_per_block + 1):
                attention, both = level in attention_levels, current + skips.pop()
                self.up_blocks.append(residual_block(both, out_channels, attention=attention))
                current = out_channels
            if level != 0:
                self.up_blocks.append(residual_block(current, current, resample="up"))

        self.norm_out = nn.GroupNorm(norm_groups or _norm_groups(current), current)
        self.conv_out = nn.Conv2d(current, channels, 3, padding=1)
        _zero(self.conv_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the features (B, C, H, W) that a normal image would have."""
        height, width = features.shape[-2:]
        missing = (0, -width % self.multiple, 0, -height % self.multiple)
        # Sizes that cannot be halved often enough repeat their last row or column.
        padded = functional.pad(features, missing, mode="replicate") if any(missing) else features
        hidden_states = self.conv_in(padded)
        skips = [hidden_states]
        for block in self.down_blocks:
            hidden_states = block(hidden_states)
            skips.append(hidden_states)
        hidden_states = self.mid_block(hidden_states)
        for block in self.up_blocks:
            if block.resample is None:
                hidden_states = torch.cat([hidden_states, skips.pop()], dim=1)
            hidden_states = block(hidden_states)
        output: torch.Tensor = self.conv_out(functional.silu(self.norm_out(hidden_states)))
        return output[..., :height, :width]


def _resampler(channels: int, resample: Literal["down", "up"] | None) -> nn.Module:
    if resample == "down":
        return nn.AvgPool2d(2)
    if resample == "up":
        return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
    return nn.Identity()


def _attention(channels: int, norm_groups: int) -> Attention:
    """Returns residual self-attention over all positions, which begins as the identity."""
    head_dim = math.gcd(channels, HEAD_CHANNELS)
    attention = Attention(
        channels,
        heads=channels // head_dim,
        dim_head=head_dim,
        norm_num_groups=norm_groups,
        eps=1e-5,
        residual_connection=True,
        bias=True,
        upcast_softmax=True,
        _from_deprecated_attn_block=True,
    )
    _zero(attention.to_out[0])
    return attention


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _norm_groups(channels: int) -> int:
    """Returns the paper's 32 groups, or the largest number that leaves four channels in each.

    A group with one channel would have a single value, and so nothing to normalise, when one image
    is scored and its features have shrunk to one position.
    """
    fewest = min(4, channels)
    return max(
        groups for groups in range(1, 33) if channels % groups == 0 and channels // groups >= fewest
    )
