"""The UNet that reconstructs the normal features of one block (paper section 3.3).

It is a diffusers-style UNet without a time embedding. It has self-attention where the features are
2 and 4 times smaller, and a skip connection from every block of the encoder.
"""

import math

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

# Number of channels of each resolution, as multiples of the width.
MULTIPLIERS = (1, 2, 4)
# Residual blocks per resolution of the encoder; the decoder has one more.
LAYERS_PER_BLOCK = 2
# Resolutions with self-attention; the features of level n are 2**n times smaller.
ATTENTION_LEVELS = (1, 2)


class ResnetAttentionBlock(nn.Module):
    """A residual block, followed by self-attention where `attention` is set."""

    def __init__(self, in_channels: int, out_channels: int, *, attention: bool) -> None:
        super().__init__()
        self.resnet = ResnetBlock2D(
            in_channels=in_channels,
            out_channels=out_channels,
            temb_channels=None,
            groups=_norm_groups(in_channels),
            groups_out=_norm_groups(out_channels),
            eps=1e-5,
        )
        self.attention = None
        if attention:
            # Over all positions, with heads of up to 64 channels.
            head_dim = math.gcd(out_channels, 64)
            self.attention = Attention(
                out_channels,
                heads=out_channels // head_dim,
                dim_head=head_dim,
                norm_num_groups=_norm_groups(out_channels),
                eps=1e-5,
                residual_connection=True,
                bias=True,
                upcast_softmax=True,
                _from_deprecated_attn_block=True,
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Returns (B, out_channels, H, W) for (B, in_channels, H, W)."""
        hidden_states = self.resnet(hidden_states, temb=None)
        if self.attention is not None:
            hidden_states = self.attention(hidden_states)
        return hidden_states


class ReconstructionUNet(nn.Module):
    """Reconstructs the features of a normal image from those of an anomalous one.

    `forward` takes and returns float tensors of shape (B, channels, H, W), of any H and W. `width`
    is the number of channels of the highest resolution; the paper uses half of those of the block.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in MULTIPLIERS]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)

        current, skips = widths[0], [widths[0]]
        self.down_blocks = nn.ModuleList()
        for level, out_channels in enumerate(widths):
            for _ in range(LAYERS_PER_BLOCK):
                attention = level in ATTENTION_LEVELS
                block = ResnetAttentionBlock(current, out_channels, attention=attention)
                self.down_blocks.append(block)
                current = out_channels
                skips.append(current)
            if level != last:
                self.down_blocks.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
                skips.append(current)

        self.mid_block = nn.Sequential(
            ResnetAttentionBlock(current, current, attention=True),
            ResnetAttentionBlock(current, current, attention=False),
        )

        self.up_blocks = nn.ModuleList()
        for level, out_channels in reversed(list(enumerate(widths))):
            for _ in range(LAYERS_PER_BLOCK + 1):
                attention, both = level in ATTENTION_LEVELS, current + skips.pop()
                block = ResnetAttentionBlock(both, out_channels, attention=attention)
                self.up_blocks.append(block)
                current = out_channels
            if level != 0:
                self.up_blocks.append(Upsample2D(current, use_conv=True))

        self.conv_norm_out = nn.GroupNorm(_norm_groups(current), current)
        self.conv_out = nn.Conv2d(current, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the features (B, C, H, W) that a normal image would have."""
        hidden_states = self.conv_in(features)
        skips = [hidden_states]
        for block in self.down_blocks:
            hidden_states = block(hidden_states)
            skips.append(hidden_states)
        hidden_states = self.mid_block(hidden_states)
        for block in self.up_blocks:
            if isinstance(block, Upsample2D):
                hidden_states = block(hidden_states, output_size=skips[-1].shape[-2:])
            else:
                hidden_states = block(torch.cat([hidden_states, skips.pop()], dim=1))
        output: torch.Tensor = self.conv_out(functional.silu(self.conv_norm_out(hidden_states)))
        return output


def _norm_groups(channels: int) -> int:
    """Returns the paper's 32 groups, or the largest number that leaves four channels in each.

    A group with one channel would have a single value, and so nothing to normalise, when one image
    is scored and its features have shrunk to one position.
    """
    fewest = min(4, channels)
    return max(
        groups for groups in range(1, 33) if channels % groups == 0 and channels // groups >= fewest
    )
