"""Local anomalies stay within the foreground of their normal image."""

from __future__ import annotations

import numpy as np
import pytest

from sia_gen.anomalies.paste import MAX_DRAWS, LocalAnomalies, local_mask, perlin_mask
from tests.anomalies.conftest import ArraySource

SIZE = 32


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def anomalies() -> LocalAnomalies:
    """Two normal images with a bright corner each, which alone may become anomalous."""
    normal = np.full((2, 3, SIZE, SIZE), 20, np.uint8)
    normal[0, :, :12, :12] = 90
    normal[1, :, 16:, 20:] = 90
    return LocalAnomalies(
        normal=normal,
        sources=[ArraySource(np.full((1, 3, SIZE, SIZE), 255, np.uint8))],
        anomalous_fraction=1.0,
        horizontal_flip=True,
        vertical_flip=True,
        foreground=(normal[:, :1] == 90).astype(np.uint8),
    )


def test_anomalies_lie_on_the_object_however_it_is_flipped(anomalies: LocalAnomalies) -> None:
    corners = set()
    for seed in range(40):
        index = seed % 2
        anomalous, normal, mask = anomalies.sample(index, rng(seed), 0)
        object_ = normal[:1] > 0.3
        assert object_.sum() == anomalies.foreground[index].sum()
        assert mask.any()
        assert (mask.dtype, mask.shape) == (np.float32, (1, SIZE, SIZE))
        assert not mask[~object_].any()
        assert np.array_equal((anomalous != normal).any(axis=0), mask[0] > 0)
        corners.add((index, bool(object_[0, 0, 0]), bool(object_[0, -1, -1])))
    assert len(corners) > 4


def test_mask_is_the_product_with_perlin_noise() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[0, 8:, 8:] = 1
    for seed in range(20):
        first = perlin_mask(rng(seed), SIZE) * foreground[0]
        if first.any():
            assert np.array_equal(local_mask(rng(seed), SIZE, foreground)[0], first)


def test_empty_product_is_drawn_again() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[0, 4:12, 4:12] = 1
    products = [perlin_mask(rng(seed), SIZE) * foreground[0] for seed in range(60)]
    missed = [seed for seed, product in enumerate(products) if not product.any()]
    assert missed
    for seed in missed:
        mask = local_mask(rng(seed), SIZE, foreground)
        assert mask.any()
        assert not mask[foreground == 0].any()


def test_foreground_that_masks_keep_missing_becomes_anomalous_as_a_whole() -> None:
    # Perlin noise is 0 in the corner of its first cell, and turning it only brings in more zeros.
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[0, 0, 0] = 1
    generator = rng(0)
    assert not any(perlin_mask(generator, SIZE)[0, 0] for _ in range(MAX_DRAWS))
    mask = local_mask(rng(0), SIZE, foreground)
    assert (mask.dtype, np.array_equal(mask, foreground)) == (np.float32, True)


def test_foreground_everywhere_changes_nothing(anomalies: LocalAnomalies) -> None:
    everything = {**vars(anomalies), "foreground": np.ones((2, 1, SIZE, SIZE), np.uint8)}
    nothing = {**vars(anomalies), "foreground": None}
    for seed in range(5):
        with_rule = LocalAnomalies(**everything).sample(0, rng(seed), 0)
        without = LocalAnomalies(**nothing).sample(0, rng(seed), 0)
        assert all(np.array_equal(*pair) for pair in zip(with_rule, without, strict=True))
