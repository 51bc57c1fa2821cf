"""The sizes of classifier a recipe can name."""

from __future__ import annotations

from typing import Any

from sia_gen.config.recipe import Recipe
from sia_gen.config.suggestions import did_you_mean
from sia_gen.errors import RecipeError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import check_size

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
    """The classifier of a recipe's categories, with random weights.

    Raises:
        RecipeError: If there is no such preset, or it cannot halve the size often enough.
    """
    preset = recipe.classifier.preset
    if preset not in PRESETS:
        raise RecipeError(
            problem=f"'classifier.preset': there is no '{preset}'{did_you_mean(preset, PRESETS)}.",
            fix=f"Choose one of: {', '.join(PRESETS)}.",
        )
    check_size(recipe.diffusion.image_size, len(PRESETS[preset]["block_out_channels"]))
    classifier: NoisyClassifier = NoisyClassifier(
        sample_size=recipe.diffusion.image_size,
        in_channels=len(recipe.mode),
        num_classes=len(recipe.categories),
        **PRESETS[preset],
    )
    return classifier
