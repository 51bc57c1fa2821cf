"""The reconstruction network has the authors' structure, and takes features of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from sia_gen.config.settings import RealNetFit
from sia_gen.realnet.reconstruction import ReconstructionUNet
from tests.realnet.original_reconstruction import (
    HEAD,
    AttentionBlock,
    OriginalReconstruction,
)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (37, 37), (1, 1)])
def test_reconstruction_keeps_the_shape_of_its_block(height: int, width: int) -> None:
    unet = ReconstructionUNet(channels=12, width=6)
    features = torch.randn(2, 12, height, width)
    assert unet(features).shape == features.shape


def layers(module: nn.Module) -> list[Any]:
    """All layers with weights, in the order in which both networks make them."""
    children = [*module.children()]
    if isinstance(module, (Attention, AttentionBlock)) or not children:
        return [module] if [*module.parameters()] else []
    return [layer for child in children for layer in layers(child)]


@torch.no_grad()
def copy_weights(theirs: OriginalReconstruction, ours: ReconstructionUNet) -> None:
    for source, target in zip(layers(theirs), layers(ours), strict=True):
        if not isinstance(source, AttentionBlock):
            target.load_state_dict(source.state_dict())
            continue
        channels = source.norm.num_channels
        # Theirs has query, key and value of one head after another.
        by_head = source.qkv.weight.view(channels // HEAD, 3, HEAD, channels)
        biases = source.qkv.bias.view(channels // HEAD, 3, HEAD)
        for part, name in enumerate(("to_q", "to_k", "to_v")):
            getattr(target, name).weight.copy_(by_head[:, part].reshape(channels, channels))
            getattr(target, name).bias.copy_(biases[:, part].flatten())
        target.to_out[0].weight.copy_(source.proj_out.weight.squeeze(-1))
        target.to_out[0].bias.copy_(source.proj_out.bias)
        target.group_norm.load_state_dict(source.norm.state_dict())


def test_it_computes_what_the_authors_network_does() -> None:
    torch.manual_seed(0)
    theirs, ours = OriginalReconstruction(256), ReconstructionUNet(256, 128)
    copy_weights(theirs, ours)
    features = torch.randn(2, 256, 8, 12)
    with torch.no_grad():
        expected = theirs(features)
        assert torch.allclose(ours(features), expected, atol=1e-5)
        # Where features cannot be halved, the edge is repeated.
        assert torch.allclose(
            ours(features[..., :7, :10]),
            theirs(nn.functional.pad(features[..., :7, :10], (0, 2, 0, 1), mode="replicate"))[
                ..., :7, :10
            ],
            atol=1e-5,
        )


def test_it_has_as_many_parameters_as_the_paper_needs() -> None:
    with torch.device("meta"):
        networks = [ReconstructionUNet(kept, kept // 2) for kept in RealNetFit().channels_kept]
        theirs = [OriginalReconstruction(kept) for kept in RealNetFit().channels_kept]
    count = [sum(one.numel() for one in network.parameters()) for network in networks]
    assert count == [sum(one.numel() for one in network.parameters()) for network in theirs]
    assert sum(count) == 518_236_160
