from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sia_gen.realnet.preparation import adam, lay_out_moments


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_adam_takes_one_pass_beside_compiled_networks_on_a_gpu(device: str, compiled: bool) -> None:
    with FakeTensorMode():
        weights = nn.Parameter(torch.empty(3, device=device))
        optimizer = adam([weights], 1e-3, compiled=compiled)
    assert bool(optimizer.defaults["fused"]) == (compiled and device == "cuda")


def test_moments_lie_as_their_weights_and_keep_their_values() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 1))
    optimizer = adam(layers.parameters(), 1e-3, compiled=False)
    layers(torch.rand(2, 4, 5, 5)).sum().backward()
    optimizer.step()
    before = {
        (weights, name): values.clone()
        for weights, moments in optimizer.state.items()
        for name, values in moments.items()
    }
    layers.to(memory_format=torch.channels_last)
    lay_out_moments(optimizer)
    for weights, moments in optimizer.state.items():
        assert moments["exp_avg"].stride() == weights.stride()
        for name, values in moments.items():
            assert torch.equal(values, before[weights, name])
