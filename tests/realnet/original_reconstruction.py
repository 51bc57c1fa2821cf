"""The reconstruction network of the authors' RealNet in plain PyTorch, as it was published.

An independent reference, whose tensors are named as in their checkpoints: nothing here comes from
diffusers or from sia_gen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from tests.diffusion.original_adm import attention

HEAD = 64


class Doubling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Halving(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 2)


class ResBlock(nn.Module):
    def __init__(self, inner: int, outer: int, kind: str | None = None) -> None:
        super().__init__()
        conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inner), nn.SiLU(), conv)
        make = {"up": lambda: Doubling(inner), "down": Halving}.get(kind or "", nn.Identity)
        self.h_upd, self.x_upd = make(), make()
        self.skip_connection = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm, activation, conv = self.in_layers
        hidden = conv(self.h_upd(activation(norm(x))))
        return self.skip_connection(self.x_upd(x)) + hidden


class AttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        mixed = attention(self.qkv(self.norm(flat)), x.shape[1] // HEAD, split=False)
        return (flat + self.proj_out(mixed)).view_as(x)


class OriginalReconstruction(nn.Module):
    """A UNet whose width is a share of its channels, with attention where the authors ask for it.

    That is where features are `attention` times smaller.
    """

    def __init__(
        self,
        channels: int,
        multipliers: Sequence[float] = (1, 2, 4),
        share: float = 0.5,
        attention: Sequence[int] = (2, 4),
        number: int = 2,
    ) -> None:
        super().__init__()
        widths = [int(int(share * channels) * one) for one in multipliers]
        width, skips = widths[0], [widths[0]]
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for level, outer in enumerate(widths):
            for _ in range(number):
                layers: list[nn.Module] = [ResBlock(width, outer)]
                if 2**level in attention:
                    layers.append(AttentionBlock(outer))
                blocks.append(nn.Sequential(*layers))
                width = outer
                skips.append(width)
            if level < len(widths) - 1:
                blocks.append(ResBlock(width, width, "down"))
                skips.append(width)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(
            ResBlock(width, width), AttentionBlock(width), ResBlock(width, width)
        )
        blocks = []
        for level, outer in reversed(list(enumerate(widths))):
            for place in range(number + 1):
                layers = [ResBlock(width + skips.pop(), outer)]
                if 2**level in attention:
                    layers.append(AttentionBlock(outer))
                if level > 0 and place == number:
                    layers.append(ResBlock(outer, outer, "up"))
                blocks.append(nn.Sequential(*layers))
                width = outer
        self.output_blocks = nn.ModuleList(blocks)
        conv = nn.Conv2d(width, channels, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.input_blocks:
            x = block(x)
            skips.append(x)
        x = self.middle_block(x)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1))
        return self.out(x)
