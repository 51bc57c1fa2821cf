from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sia_gen.anomalies.paste import AnomalyBatches
from sia_gen.config.recipe import Recipe
from sia_gen.realnet.channels import channel_loss
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.preparation import adam, initialise, lay_out_moments
from sia_gen.train.batches import BatchOrder
from tests.realnet.conftest import CPU, data_of


@torch.no_grad()
def test_losses_that_choose_channels_are_means_over_batches(
    recipe: Recipe, photographs: Path, corpus: Path
) -> None:
    changed = recipe.override({"realnet.afs_batches": 3, "realnet.standardise": False})
    anomalies = data_of(changed, photographs, corpus).fit
    model = RealNet.of(changed.realnet)
    initialise(model, anomalies, changed, "disc", CPU.accelerator())
    order = BatchOrder(changed.seed, len(anomalies.normal), changed.realnet.batch_size)
    batches = AnomalyBatches(replace(anomalies, anomalous_fraction=1.0), order)
    for layer in range(len(model.backbone.channels)):
        losses = [
            channel_loss(model.features(a)[layer], model.features(n)[layer], mask)
            for a, n, mask, _ in map(batches.__getitem__, range(3))
        ]
        expected = torch.stack(losses).mean(dim=0)
        torch.testing.assert_close(model.afs.get_buffer(f"losses_{layer}"), expected)


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
