"""The sizes of UNet a recipe can name."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DModel

from sia_gen.errors import RecipeError
from sia_gen.suggestions import did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    # 4.3 M parameters: small images on a CPU, in minutes.
    "tiny": {
        "block_out_channels": (32, 64, 128, 128),
        "layers_per_block": 1,
        "attention_head_dim": 32,
        "norm_num_groups": 8,
    },
    # 33 M parameters: 128 pixels on one GPU.
    "small": {
        "block_out_channels": (64, 128, 192, 256),
        "layers_per_block": 2,
        "attention_head_dim": 64,
        "norm_num_groups": 32,
    },
}


def build_unet(preset: str, image_size: int, channels: int) -> UNet2DModel:
    """A UNet with random weights that predicts the noise in images (B, C, H, W).

    Args:
        preset: A key of `PRESETS`.
        image_size: H = W, in pixels.
        channels: C, 1 for grey and 3 for colour images.

    Raises:
        RecipeError: If there is no such preset, or it cannot halve the size often enough.
    """
    if preset not in PRESETS:
        raise RecipeError(
            problem=f"'diffusion.preset': there is no '{preset}'{did_you_mean(preset, PRESETS)}.",
            fix=f"Choose one of: {', '.join(PRESETS)}.",
        )
    levels = len(PRESETS[preset]["block_out_channels"])
    stride = 2 ** (levels - 1)
    if image_size % stride:
        raise RecipeError(
            problem=f"'diffusion.image_size': {image_size} is not a multiple of {stride}.",
            fix=f"Use {image_size // stride * stride or stride} or another multiple of {stride}.",
        )
    return UNet2DModel(
        sample_size=image_size,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        **PRESETS[preset],
    )
