from __future__ import annotations

import math

import numpy as np
import pytest

from sia_gen.anomalies.paste import local_mask, perlin_mask, perlin_noise


def noise_by_definition(seed: int, size: int, rows: int, columns: int) -> np.ndarray:
    """Pixel by pixel: fade between the slopes of the four corners of its cell."""
    angles = np.random.default_rng(seed).uniform(0, 2 * math.pi, size=(rows + 1, columns + 1))

    def slope(i: int, j: int, y: float, x: float) -> float:
        return math.cos(angles[i, j]) * (x - j) + math.sin(angles[i, j]) * (y - i)

    def blend(a: float, b: float, t: float) -> float:
        return a + (b - a) * (6 * t**5 - 15 * t**4 + 10 * t**3)

    noise = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y, x = row * rows / size, column * columns / size
            i, j = int(y), int(x)
            top = blend(slope(i, j, y, x), slope(i, j + 1, y, x), x - j)
            bottom = blend(slope(i + 1, j, y, x), slope(i + 1, j + 1, y, x), x - j)
            noise[row, column] = math.sqrt(2) * blend(top, bottom, y - i)
    return noise


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 8), (16, 4), (32, 32)])
def test_noise_is_perlins(rows: int, columns: int) -> None:
    found = perlin_noise(np.random.default_rng(5), 32, rows, columns)
    np.testing.assert_allclose(found, noise_by_definition(5, 32, rows, columns), atol=1e-12)
    assert np.abs(found).max() <= 1


def test_noise_is_zero_on_the_corners() -> None:
    noise = perlin_noise(np.random.default_rng(0), 64, 8, 4)
    np.testing.assert_allclose(noise[::8, ::16], 0, atol=1e-12)


def test_masks_are_seeded_binary_and_of_many_sizes() -> None:
    shares = []
    for seed in range(200):
        mask = perlin_mask(np.random.default_rng(seed), 64)
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert np.array_equal(mask, perlin_mask(np.random.default_rng(seed), 64))
        shares.append(mask.mean())
    assert min(shares) < 0.02
    assert max(shares) > 0.2
    assert 0.03 < np.mean(shares) < 0.2


def test_nonempty_masks_are_not_empty() -> None:
    assert all(local_mask(np.random.default_rng(seed), 32, None).any() for seed in range(300))
