"""The networks of ADM (arXiv 2105.05233) in plain PyTorch, their tensors named as in checkpoints.

An independent reference: nothing here comes from diffusers or from sia_gen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def sinusoid(timesteps: torch.Tensor, width: int) -> torch.Tensor:
    rates = torch.tensor([10000.0 ** (-2 * i / width) for i in range(width // 2)])
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One head: (B, C, N) each."""
    weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=2)
    return v @ weights.transpose(1, 2)


def attention(qkv: torch.Tensor, heads: int, split: bool) -> torch.Tensor:
    """(B, 3C, N) to (B, C, N), head by head."""
    width = qkv.shape[1] // 3 // heads
    if split:
        q, k, v = (part.split(width, dim=1) for part in qkv.chunk(3, dim=1))
        return torch.cat([attend(*head) for head in zip(q, k, v, strict=True)], dim=1)
    rows = [head.split(width, dim=1) for head in qkv.split(3 * width, dim=1)]
    return torch.cat([attend(*head) for head in rows], dim=1)


class Resampling(nn.Module):
    def __init__(self, kind: str | None) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "down":
            return functional.avg_pool2d(x, 2)
        if self.kind == "up":
            return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return x


class ResBlock(nn.Module):
    def __init__(self, inner: int, outer: int, embedding: int, kind: str | None = None) -> None:
        super().__init__()
        conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inner), nn.SiLU(), conv)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outer))
        conv = nn.Conv2d(outer, outer, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, outer), nn.SiLU(), nn.Dropout(0), conv)
        self.skip_connection = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        self.resample = Resampling(kind)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        norm, activation, conv = self.in_layers
        hidden = conv(self.resample(activation(norm(x))))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = self.out_layers[0](hidden) * (1 + scale) + shift
        return self.skip_connection(self.resample(x)) + self.out_layers[1:](hidden)


class AttentionBlock(nn.Module):
    def __init__(self, channels: int, heads: int, split: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        self.heads, self.split = heads, split

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        hidden = attention(self.qkv(self.norm(flat)), self.heads, self.split)
        return (flat + self.proj_out(hidden)).reshape(x.shape)


class Block(nn.Sequential):
    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, embedding)
        return x


class Encoder(nn.Module):
    """What UNet and classifier share: `attending` are the levels with attention."""

    def __init__(
        self,
        width: int,
        multipliers: Sequence[float],
        layers: int,
        attending: Sequence[int],
        heads: int | None = None,
        split: bool = False,
        head_channels: int = 64,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.width, self.layers, self.attending = width, layers, attending
        self.heads, self.split, self.head_channels = heads, split, head_channels
        self.channels = [int(width * multiplier) for multiplier in multipliers]
        self.embedding = 4 * width
        linear = nn.Linear(width, self.embedding), nn.Linear(self.embedding, self.embedding)
        self.time_embed = nn.Sequential(linear[0], nn.SiLU(), linear[1])
        channels = self.channels[0]
        self.skips = [channels]
        blocks = [Block(nn.Conv2d(in_channels, channels, 3, padding=1))]
        for level, outer in enumerate(self.channels):
            for _ in range(layers):
                blocks.append(Block(*self.layer(level, channels, outer)))
                channels = outer
                self.skips.append(channels)
            if level < len(self.channels) - 1:
                blocks.append(Block(ResBlock(channels, channels, self.embedding, "down")))
                self.skips.append(channels)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = Block(
            ResBlock(channels, channels, self.embedding),
            self.attention(channels),
            ResBlock(channels, channels, self.embedding),
        )

    def attention(self, channels: int) -> AttentionBlock:
        return AttentionBlock(channels, self.heads or channels // self.head_channels, self.split)

    def layer(self, level: int, inner: int, outer: int) -> list[nn.Module]:
        block: list[nn.Module] = [ResBlock(inner, outer, self.embedding)]
        return [*block, self.attention(outer)] if level in self.attending else block


class OriginalUNet(Encoder):
    def __init__(
        self, *args: object, classes: int | None = None, out_channels: int = 6, **options: object
    ) -> None:
        super().__init__(*args, **options)
        if classes is not None:
            self.label_emb = nn.Embedding(classes, self.embedding)
        channels, skips, blocks = self.channels[-1], list(self.skips), []
        for level, outer in reversed(list(enumerate(self.channels))):
            for number in range(self.layers + 1):
                parts = self.layer(level, channels + skips.pop(), outer)
                channels = outer
                if level and number == self.layers:
                    parts.append(ResBlock(outer, outer, self.embedding, "up"))
                blocks.append(Block(*parts))
        self.output_blocks = nn.ModuleList(blocks)
        conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), conv)

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        embedding = self.time_embed(sinusoid(timesteps, self.width))
        if labels is not None:
            embedding = embedding + self.label_emb(labels)
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


class Pooling(nn.Module):
    def __init__(self, positions: int, channels: int, heads: int, classes: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(channels, positions + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, classes, 1)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=2, keepdim=True), x], dim=2) + self.positional_embedding
        return self.c_proj(attention(self.qkv_proj(x), self.heads, split=True))[:, :, 0]


class OriginalClassifier(Encoder):
    def __init__(self, size: int, *args: object, classes: int, **options: object) -> None:
        super().__init__(*args, **options)
        side, channels = size // 2 ** (len(self.channels) - 1), self.channels[-1]
        pooling = Pooling(side**2, channels, channels // self.head_channels, classes)
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), pooling)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        embedding = self.time_embed(sinusoid(timesteps, self.width))
        for block in self.input_blocks:
            x = block(x, embedding)
        return self.out(self.middle_block(x, embedding))


def randomised(network: Encoder, seed: int = 0) -> Encoder:
    """Gives every tensor random values, affine maps of norms and embeddings too."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        # Weights keep the scale of what passes; all else is of order one.
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5
        shift = float(parameter.ndim == 1 and name.endswith("weight"))
        parameter.data = shift + scale * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


UNET_64 = {"multipliers": (1, 2, 3, 4), "layers": 3, "attending": (1, 2, 3), "split": True}
UNET_128 = {"multipliers": (1, 1, 2, 3, 4), "layers": 2, "attending": (2, 3, 4), "heads": 4}
UNET_256 = {"multipliers": (1, 1, 2, 2, 4, 4), "layers": 2, "attending": (3, 4, 5)}
UNET_512 = {"multipliers": (0.5, 1, 1, 2, 2, 4, 4), "layers": 2, "attending": (4, 5, 6)}
# As small as ADM gets; its size is 16 pixels or any other even number.
SMALL = {"multipliers": (1, 2), "layers": 1, "attending": (1,)}


def small_unet(**options: object) -> OriginalUNet:
    return randomised(OriginalUNet(64, **SMALL, **options))


def small_classifier(**options: object) -> OriginalClassifier:
    return randomised(OriginalClassifier(16, 64, **SMALL, **{"classes": 5, **options}))


def inputs(size: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy images and their timesteps."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, size, size, generator=generator), torch.tensor([3, 777])


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())
