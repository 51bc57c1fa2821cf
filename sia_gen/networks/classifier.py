"""The classifier of noisy images that guides sampling to a class (ADM, section 4)."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from torch import nn
from torch.nn import functional

from sia_gen.config.recipe import Recipe
from sia_gen.networks.unet import find_preset

# Pipelines look the base class up in the module of the model they load.
__all__ = ["AttentionPooling", "ModelMixin", "NoisyClassifier"]

NORM_EPS = 1e-5


class NoisyClassifier(ModelMixin, ConfigMixin):
    """The encoder half of the ADM UNet with attention pooling on top (arXiv 2105.05233).

    Arguments mean what they mean to diffusers' `UNet2DModel`, except that `attention_head_dim` must
    divide the channels of the last level; down blocks are `"ResnetDownsampleBlock2D"` or, with
    attention, `"AttnDownBlock2D"`. `timestep_features` is the width of the sinusoidal embedding, by
    default that of the first level. The defaults are those of the classifier for 256 pixels.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 256,
        in_channels: int = 3,
        num_classes: int = 1000,
        block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512),
        layers_per_block: int = 2,
        down_block_types: tuple[str, ...] = ("ResnetDownsampleBlock2D",) * 3
        + ("AttnDownBlock2D",) * 3,
        attention_head_dim: int = 64,
        norm_num_groups: int = 32,
        dropout: float = 0.0,
        timestep_features: int | None = None,
    ) -> None:
        super().__init__()
        first, last = block_out_channels[0], block_out_channels[-1]
        stride = 2 ** (len(block_out_channels) - 1)
        if sample_size % stride or last % attention_head_dim:
            msg = (
                f"sample_size {sample_size} must be a multiple of {stride}, and the {last} "
                f"channels of the last level one of attention_head_dim, {attention_head_dim}"
            )
            raise ValueError(msg)
        features = timestep_features or first
        embedding = features * 4
        self.conv_in = nn.Conv2d(in_channels, first, kernel_size=3, padding=1)
        self.time_proj = Timesteps(features, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(features, embedding)
        blocks = {
            "temb_channels": embedding,
            "dropout": dropout,
            "resnet_eps": NORM_EPS,
            "resnet_act_fn": "silu",
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": attention_head_dim,
            "resnet_groups": norm_num_groups,
        }
        self.down_blocks = nn.ModuleList(
            get_down_block(
                kind,
                num_layers=layers_per_block,
                in_channels=block_out_channels[max(level - 1, 0)],
                out_channels=block_out_channels[level],
                add_downsample=level < len(block_out_channels) - 1,
                downsample_type="resnet",
                **blocks,
            )
            for level, kind in enumerate(down_block_types)
        )
        self.mid_block = UNetMidBlock2D(in_channels=last, attn_groups=norm_num_groups, **blocks)
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, last, eps=NORM_EPS)
        self.pool = AttentionPooling((sample_size // stride) ** 2, last, attention_head_dim)
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor | float | int) -> torch.Tensor:
        """Returns the logits (B, num_classes) of noisy images x_t (B, C, H, W), about -1 to 1."""
        size = self.config.sample_size
        if sample.shape[-2:] != (size, size):
            msg = f"images of {tuple(sample.shape[-2:])} do not fit a classifier of {size} pixels"
            raise ValueError(msg)
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        embedding = self.time_embedding(self.time_proj(timesteps).to(self.dtype))
        hidden = self.conv_in(sample)
        for block in self.down_blocks:
            hidden, _ = block(hidden, embedding)
        hidden = self.conv_norm_out(self.mid_block(hidden, embedding))
        logits: torch.Tensor = self.classifier(self.pool(functional.silu(hidden)))
        return logits


class AttentionPooling(nn.Module):
    """Pools features (B, C, H, W) to (B, C): their mean attends to all `positions`, H * W.

    Every position has a learned embedding, the mean too. `head_dim` divides `channels`, C.
    """

    def __init__(self, positions: int, channels: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        embedding = torch.randn(channels, positions + 1) / channels**0.5
        self.positional_embedding = nn.Parameter(embedding)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features."""
        tokens = features.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + self.positional_embedding.T
        # (B, N, C) to (B, heads, N, head_dim)
        query, keys, values = (
            projected.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for projected in (self.to_q(tokens[:, :1]), self.to_k(tokens), self.to_v(tokens))
        )
        return functional.scaled_dot_product_attention(query, keys, values).flatten(1)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "block_out_channels": (32, 64, 128, 128),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",),
        "layers_per_block": 1,
        "attention_head_dim": 32,
        "norm_num_groups": 8,
    },
    "small": {
        "block_out_channels": (64, 128, 192, 256),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2 + ("AttnDownBlock2D",) * 2,
    },
    # ADM's, made for 256 pixels.
    "adm-256": {
        "block_out_channels": (128, 128, 256, 256, 512, 512),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
    },
}


def build_classifier(recipe: Recipe) -> NoisyClassifier:
    """Returns the classifier of a recipe's categories, with random weights."""
    size = recipe.diffusion.image_size
    preset = find_preset(PRESETS, recipe.classifier.preset, "classifier.preset", size)
    classifier: NoisyClassifier = NoisyClassifier(
        sample_size=size,
        in_channels=len(recipe.mode),
        num_classes=len(recipe.categories),
        **preset,
    )
    return classifier
