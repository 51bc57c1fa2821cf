from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sia_gen.realnet.channels import AnomalyAwareFeatureSelection, channel_loss, channel_losses

Array = NDArray[np.float64]


def loss_by_definition(anomalous: Array, normal: Array, mask: Array) -> Array:
    """Channel by channel and pixel by pixel, in float64 (paper section 3.2)."""
    batch, channels, height, width = anomalous.shape
    losses = np.zeros(channels)
    for channel in range(channels):
        difference = (anomalous[:, channel] - normal[:, channel]) ** 2
        low, high = difference.min(), difference.max()
        total = 0.0
        for image in range(batch):
            for row in range(height):
                for column in range(width):
                    scaled = (difference[image, row, column] - low) / (high - low + 1e-4)
                    source = (row * mask.shape[2] // height, column * mask.shape[3] // width)
                    total += (scaled - mask[image, 0, source[0], source[1]]) ** 2
        losses[channel] = total / (batch * height * width)
    return losses


def features(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(seed: int, side: int) -> torch.Tensor:
    noise = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return (noise > 0.7).float()


@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (3, 4, 4, 4), (3, 2, 5, 7)])
def test_loss_is_that_of_the_definition(shape: tuple[int, ...]) -> None:
    anomalous, normal, mask = features(0, shape), features(1, shape), masks(2, 16)
    expected = loss_by_definition(*(part.double().numpy() for part in (anomalous, normal, mask)))
    np.testing.assert_allclose(channel_loss(anomalous, normal, mask).numpy(), expected, atol=1e-4)


def test_losses_of_all_layers_follow_one_another() -> None:
    shapes, mask = [(3, 4, 8, 8), (3, 6, 4, 4)], masks(0, 16)
    anomalous = [features(layer, shape) for layer, shape in enumerate(shapes)]
    normal = [features(layer + 5, shape) for layer, shape in enumerate(shapes)]
    found = channel_losses(anomalous, normal, mask).split([4, 6])
    for layer in range(2):
        parts = (anomalous[layer], normal[layer], mask)
        expected = loss_by_definition(*(part.double().numpy() for part in parts))
        np.testing.assert_allclose(found[layer].numpy(), expected, atol=1e-4)


def test_channel_that_shows_the_anomaly_has_the_lowest_loss() -> None:
    mask = masks(3, 8)
    normal = torch.zeros(3, 3, 8, 8)
    anomalous = normal.clone()
    anomalous[:, 1] = mask[:, 0] * 5
    anomalous[:, 2] = (1 - mask[:, 0]) * 5
    losses = channel_loss(anomalous, normal, mask)
    assert losses.argmin() == 1
    assert losses.argmax() == 2
    assert losses[1] < 1e-6


def test_lowest_channels_are_kept_in_order_and_saved() -> None:
    selection = AnomalyAwareFeatureSelection([5, 3], [2, 9])
    selection.select([torch.tensor([0.5, 0.1, 0.9, 0.05, 0.3]), torch.tensor([3.0, 1.0, 2.0])])
    first, second = features(0, (2, 5, 4, 4)), features(1, (2, 3, 2, 2))
    kept = selection([first, second])
    assert torch.equal(kept[0], first[:, [1, 3]])
    assert torch.equal(kept[1], second)
    other = AnomalyAwareFeatureSelection([5, 3], [2, 9])
    other.load_state_dict(selection.state_dict())
    assert torch.equal(other([first, second])[0], kept[0])
    assert other.get_buffer("losses_0").tolist() == pytest.approx([0.5, 0.1, 0.9, 0.05, 0.3])
