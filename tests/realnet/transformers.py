"""Transformers of timm's families that are small; whoever imports this can name them in a recipe.

Their weights are made for images as large as those of the family, and have its mean and deviation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import model_entrypoint, register_model
from torch import nn

VIT = {"embed_dim": 32, "depth": 4, "num_heads": 2}
STAGES = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
FAMILIES = {
    "small_dinov2": ("vit_small_patch14_dinov2", VIT),
    "small_dinov2_reg4": ("vit_small_patch14_reg4_dinov2", VIT),
    "small_dinov3": ("vit_small_patch16_dinov3", VIT),
    "small_clip": ("vit_base_patch16_clip_224", VIT),
    "small_siglip": ("vit_base_patch16_siglip_224", VIT),
    "small_beit": ("beit_base_patch16_224", VIT),
    "small_swin": ("swin_tiny_patch4_window7_224", STAGES),
    "small_swinv2": ("swinv2_tiny_window8_256", STAGES),
}
# Where `register_model` looks for the facts about weights.
default_cfgs: dict[str, Any] = {}


def register(name: str, model: str, smaller: dict[str, Any]) -> None:
    """Registers a model of timm under a new name, smaller."""

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        network: nn.Module = model_entrypoint(model)(pretrained, **smaller | options)
        return network

    create.__name__ = name
    default_cfgs[name] = timm.get_pretrained_cfg(model).to_dict()
    register_model(create)


for family, (known, size) in FAMILIES.items():
    register(family, known, size)


def save_whole(name: str, folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Saves random weights of a whole model, with its head, as timm's files on the Hub are."""
    torch.manual_seed(0)
    network = timm.create_model(name)
    for parameter in network.parameters():
        # Those that begin as constants differ from one another, too.
        nn.init.normal_(parameter, std=0.2)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    save_file(state, folder / "whole.safetensors")
    return folder / "whole.safetensors", state
