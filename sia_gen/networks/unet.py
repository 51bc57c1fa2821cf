"""The UNets that recipes can name, and the one class that diffusers lacks."""

from typing import Any

import torch
from diffusers import ModelMixin, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch.utils.flop_counter import FlopCounterMode

from sia_gen.config.settings import Diffusion
from sia_gen.errors import RecipeError, did_you_mean

# Pipelines look the base class up in the module of the model they load.
__all__ = ["ADMUNet2DModel", "ModelMixin"]

# What the networks of ADM have in common (Dhariwal and Nichol, 2021, arXiv 2105.05233).
ADM: dict[str, Any] = {
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "attention_head_dim": 64,
    "norm_num_groups": 32,
    "attn_norm_num_groups": 32,
    "layers_per_block": 2,
}

PRESETS: dict[str, dict[str, Any]] = {
    # 4.3 M parameters: small images on a CPU, in minutes.
    "tiny": {
        "block_out_channels": (32, 64, 128, 128),
        "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
        "layers_per_block": 1,
        "attention_head_dim": 32,
        "norm_num_groups": 8,
    },
    # 21 M parameters: 128 pixels on one GPU.
    "small": {
        "block_out_channels": (64, 128, 192, 256),
        "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
        "layers_per_block": 2,
        "attention_head_dim": 64,
        "norm_num_groups": 32,
    },
    # 104 M parameters: 256 pixels, from scratch, one model per category.
    "base": ADM
    | {
        "block_out_channels": (128, 128, 256, 384, 512),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 2,
        "up_block_types": ("AttnUpBlock2D",) * 2 + ("ResnetUpsampleBlock2D",) * 3,
    },
    # 553 M parameters: the paper's network, made for 256 pixels.
    "adm-256": ADM
    | {
        "block_out_channels": (256, 256, 512, 512, 1024, 1024),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
        "up_block_types": ("AttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",) * 3,
    },
}


def build_unet(settings: Diffusion, channels: int, num_classes: int | None = None) -> UNet2DModel:
    """Returns the UNet of a recipe with random weights, for images (B, C, H, W).

    It predicts the noise, (B, C, H, W), or noise and variance, (B, 2C, H, W), where the variance
    is learned.
    """
    preset = find_preset(PRESETS, settings.preset, "diffusion.preset", settings.image_size)
    return UNet2DModel(
        sample_size=settings.image_size,
        in_channels=channels,
        out_channels=channels * (2 if settings.variance == "learned_range" else 1),
        num_class_embeds=num_classes,
        **preset,
    )


def find_preset(
    presets: dict[str, dict[str, Any]], name: str, key: str, image_size: int
) -> dict[str, Any]:
    """Returns the preset that a key of a recipe names, if it suits the image size."""
    if name not in presets:
        raise RecipeError(
            problem=f"'{key}': there is no '{name}'{did_you_mean(name, presets)}.",
            fix=f"Choose one of: {', '.join(presets)}.",
        )
    check_size(image_size, len(presets[name]["block_out_channels"]))
    return presets[name]


def check_size(image_size: int, levels: int) -> None:
    """Raises `RecipeError` unless a network of this many levels can halve the image size."""
    stride = 2 ** (levels - 1)
    if image_size % stride:
        raise RecipeError(
            problem=f"'diffusion.image_size': {image_size} is not a multiple of {stride}.",
            fix=f"Use {image_size // stride * stride or stride} or another multiple of {stride}.",
        )


def forward_flops(unet: UNet2DModel) -> int:
    """Counts the floating-point operations of a forward pass with one image, on the meta device."""
    with torch.device("meta"):
        model = type(unet).from_config(unet.config)
        size, channels = unet.config.sample_size, unet.config.in_channels
        classes = unet.config.num_class_embeds
        labels = None if classes is None else torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, channels, size, size), torch.zeros(1), class_labels=labels)
    return int(counter.get_total_flops())


class ADMUNet2DModel(UNet2DModel):
    """A `UNet2DModel` with two more arguments, for two of OpenAI's networks.

    The one for 128 pixels has 4 attention heads in every block, however wide, in place of
    `attention_head_dim` channels per head; the one for 512 pixels has a sinusoidal embedding of the
    timestep of another width than its first level.
    """

    def __init__(
        self,
        num_attention_heads: int | None = None,
        timestep_features: int | None = None,
        **unet: Any,
    ) -> None:
        super().__init__(**unet)
        self.register_to_config(
            num_attention_heads=num_attention_heads, timestep_features=timestep_features
        )
        if num_attention_heads is not None:
            for module in self.modules():
                if isinstance(module, Attention):
                    # The channels are cut into another number of heads; no weight changes.
                    module.heads = module.sliceable_head_dim = num_attention_heads
                    module.scale = (module.inner_dim // num_attention_heads) ** -0.5
        if timestep_features is not None:
            config = self.config
            width = config.time_embedding_dim or 4 * config.block_out_channels[0]
            self.time_proj = Timesteps(timestep_features, config.flip_sin_to_cos, config.freq_shift)
            self.time_embedding = TimestepEmbedding(timestep_features, width)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        # The keys that `from_config` passes on; it does not see through `**unet`.
        both = (input_class, UNet2DModel)
        return {key for each in both for key in UNet2DModel._get_init_keys(each)}
