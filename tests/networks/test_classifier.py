"""The classifier of noisy images as a diffusers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sia_gen.networks.classifier import AttentionPooling, NoisyClassifier

CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "num_classes": 3,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "attention_head_dim": 32,
}


def make(**changes: Any) -> NoisyClassifier:
    torch.manual_seed(0)
    return NoisyClassifier(**(CONFIG | changes)).eval()


def images(count: int = 3, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_are_one_per_image_and_class() -> None:
    assert make(num_classes=7, in_channels=1)(images(2, channels=1), 5).shape == (2, 7)


@torch.no_grad()
def test_one_timestep_counts_for_all_images() -> None:
    model = make()
    each = model(images(), torch.tensor([5, 5, 5]))
    for one in (5, 5.0, torch.tensor(5)):
        torch.testing.assert_close(model(images(), one), each)
    assert not torch.allclose(model(images(), 500), each, atol=1e-3)


@torch.no_grad()
def test_image_is_classified_alike_in_any_batch() -> None:
    model, timesteps = make(), torch.tensor([1, 100, 900])
    together = model(images(), timesteps)
    for index in range(3):
        alone = model(images()[index : index + 1], timesteps[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_pixel_and_every_weight() -> None:
    model, noisy = make(), images(1).requires_grad_()
    model(noisy, 5)[0, 1].backward()
    assert noisy.grad is not None
    assert bool((noisy.grad != 0).all())
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def test_saved_classifier_comes_back(tmp_path: Path) -> None:
    model = make(timestep_features=64)
    model.save_pretrained(tmp_path)
    loaded = NoisyClassifier.from_pretrained(tmp_path)
    assert torch.equal(loaded(images(), 5), model(images(), 5))
    assert loaded.config.timestep_features == 64


def test_gradients_are_the_same_with_checkpointing() -> None:
    model, gradients = make(), []
    for switch in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
        switch()
        model.zero_grad()
        model(images(), 5).square().sum().backward()
        gradients.append(model.conv_in.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of \(32, 32\) do not fit a classifier of 16"):
        make()(torch.zeros(1, 3, 32, 32), 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_size": 15}, "sample_size 15 must be a multiple of 2"),
        (
            {"attention_head_dim": 48},
            "the 64 channels of the last level one of attention_head_dim, 48",
        ),
    ],
)
def test_sizes_that_do_not_divide_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


@torch.no_grad()
def test_pooling_equals_its_definition_in_numpy() -> None:
    torch.manual_seed(0)
    pooling, features = AttentionPooling(6, 8, 4).double(), torch.randn(2, 8, 2, 3).double()

    def linear(layer: torch.nn.Linear, tokens: np.ndarray) -> np.ndarray:
        return tokens @ layer.weight.numpy().T + layer.bias.numpy()

    for image, pooled in zip(features.numpy(), pooling(features).numpy(), strict=True):
        tokens = image.reshape(8, 6).T
        tokens = np.vstack([tokens.mean(axis=0), tokens]) + pooling.positional_embedding.numpy().T
        q, k, v = (linear(layer, tokens) for layer in (pooling.to_q, pooling.to_k, pooling.to_v))
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(k[:, head] @ q[0, head] / 2)
            expected = weights @ v[:, head] / weights.sum()
            np.testing.assert_allclose(pooled[head], expected, rtol=1e-10)
