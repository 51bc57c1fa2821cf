"""The UNet class that knows what ADM has and diffusers has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor

from sia_gen.diffusion.adm.convert import convert_adm_state_dict
from tests.diffusion.original_adm import OriginalUNet, inputs, randomised, small_unet

# Four heads everywhere, and a timestep embedding twice as wide as the first level.
FOUR_HEADS: dict[str, Any] = {"image_size": 8, "num_heads": 4}
NARROW_START = {"multipliers": (0.5, 1), "layers": 1, "attending": (1,)}


@torch.no_grad()
def predict(model: Any) -> torch.Tensor:
    return model(*inputs(8)).sample


def models() -> dict[str, Any]:
    narrow = randomised(OriginalUNet(64, **NARROW_START)).state_dict()
    return {
        "heads": convert_adm_state_dict(small_unet(heads=4).state_dict(), **FOUR_HEADS).model,
        "timestep": convert_adm_state_dict(narrow, image_size=8).model,
    }


@pytest.mark.parametrize("kind", ["heads", "timestep"])
def test_saved_network_comes_back(tmp_path: Path, kind: str) -> None:
    model = models()[kind]
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(predict(loaded), predict(model))
    assert loaded.config.num_attention_heads == (4 if kind == "heads" else None)
    assert loaded.config.timestep_features == 64


def test_attention_is_the_same_without_the_fused_kernel() -> None:
    model = models()["heads"]
    fused = predict(model)
    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    torch.testing.assert_close(predict(model), fused, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_same_with_checkpointing() -> None:
    model = models()["heads"]
    gradients = []
    for switch in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
        switch()
        model.zero_grad()
        model(*inputs(8)).sample.square().mean().backward()
        gradients.append(model.conv_in.weight.grad.clone())
    torch.testing.assert_close(*gradients)
