"""Perlin masks: the regions of local anomalies (paper section 3.1, supplementary)."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rotate

THRESHOLD = 0.5
MAX_SCALE_EXPONENT = 5


def perlin_mask(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Draws a mask of blobs, (size, size), values 0 and 1: rotated Perlin noise above a threshold.

    It can be all zeros; see `nonempty_perlin_mask`.
    """
    rows, columns = (int(2 ** rng.integers(0, MAX_SCALE_EXPONENT + 1)) for _ in range(2))
    noise = perlin_noise(rng, size, rows, columns)
    angle = rng.uniform(-90, 90)
    turned: NDArray[np.float64] = rotate(noise, angle, reshape=False, order=1)
    return (turned > THRESHOLD).astype(np.float32)


def nonempty_perlin_mask(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Draws masks until one has an anomalous pixel, (size, size), values 0 and 1."""
    while True:
        mask = perlin_mask(rng, size)
        if mask.any():
            return mask


def perlin_noise(
    rng: np.random.Generator, size: int, rows: int, columns: int
) -> NDArray[np.float64]:
    """Returns Perlin's gradient noise with `rows` x `columns` cells.

    It is (size, size), about [-1, 1], and zero on the corners of the cells.
    """
    angles = rng.uniform(0, 2 * math.pi, size=(rows + 1, columns + 1))
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    y, x = np.arange(size) * rows / size, np.arange(size) * columns / size
    row, column = y.astype(int), x.astype(int)
    dy, dx = (y - row)[:, None], (x - column)[None, :]

    def slope(below: int, right: int) -> NDArray[np.float64]:
        gradient = gradients[(row + below)[:, None], (column + right)[None, :]]
        dot: NDArray[np.float64] = gradient[..., 0] * (dx - right) + gradient[..., 1] * (dy - below)
        return dot

    fade_x, fade_y = _fade(dx), _fade(dy)
    top = slope(0, 0) + fade_x * (slope(0, 1) - slope(0, 0))
    bottom = slope(1, 0) + fade_x * (slope(1, 1) - slope(1, 0))
    noise: NDArray[np.float64] = math.sqrt(2) * (top + fade_y * (bottom - top))
    return noise


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Perlin's quintic, 6 t^5 - 15 t^4 + 10 t^3: 0 at 0, 1 at 1, flat at both."""
    faded: NDArray[np.float64] = t * t * t * (t * (t * 6 - 15) + 10)
    return faded
