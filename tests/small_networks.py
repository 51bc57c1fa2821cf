"""Networks that learn in a second; whoever imports this can name them in a recipe.

The presets of the package are `tiny` and larger: its 4 million parameters take longer to save than
a test should last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from sia_gen import RealNet
from sia_gen.networks import classifier, unet
from sia_gen.realnet.memory import coreset

PRESET = "minute"
SELECTED_ON = "normal images held out"
BACKBONE = "test_efficientnet"
NETWORK: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}

unet.PRESETS[PRESET] = NETWORK | {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
classifier.PRESETS[PRESET] = NETWORK | {
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
}


def small_networks(folder: Path) -> dict[str, Any]:
    """Changes of a recipe that choose them; the weights of the backbone are put into a folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model(BACKBONE).state_dict(), folder / "backbone.safetensors")
    return {
        "diffusion.preset": PRESET,
        "classifier.preset": PRESET,
        "realnet.backbone": BACKBONE,
        "realnet.weights": str(folder / "backbone.safetensors"),
    }


def save_detector(
    folder: Path,
    seed: int = 0,
    strides: Sequence[int] | None = (8, 16),
    *,
    threshold: float = 0.5,
    backbone: str = BACKBONE,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Saves a RealNet of 64 pixels that nothing has fitted, as a fit would."""
    torch.manual_seed(seed)
    channels = [8] * len(layers or strides or ())
    options |= {"num_max": 4, "num_mean": 4, "layers": layers}
    model = RealNet(backbone, 64, strides, channels, **options)
    # Without it all images would have almost the same score.
    normal = 0.5 + 0.1 * torch.rand(4, 1, 64, 64)
    model.backbone.standardise([model.features(normal)])
    if model.memory is not None:
        model.memory.fill(model.selected_features(normal)[:1], range(len(normal)), seed, coreset)
    if model.places is not None:
        model.places.measure(torch.randn(2, 64, 64).numpy())
    model.save_pretrained(folder)
    report = {"threshold": threshold, "selected_on": SELECTED_ON, "model_version": 2}
    (folder / "fit.json").write_text(json.dumps(report))
