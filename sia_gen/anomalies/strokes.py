"""Strokes: masks of what cracks, scratches and hairs have in common, a long thin curve.

A Perlin mask has blobs, so a detector that learns from those alone does not learn to follow a line
that is fainter than the texture around it.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

# Shares of the side of an image, and changes of direction in radians per pixel.
LENGTH, HALF_WIDTH = (0.1, 1.0), (0.003, 0.02)
BEND, ROUGHNESS = 0.01, (0.01, 0.12)
# Deviation of the logarithm of the width along a stroke.
UNEVENNESS = 0.3
# Pixels from one point of a stroke to the next.
STEP = 2
# Largest deviation in pixels of the blur that softens edges, as a lens does.
BLUR = 1.5

UnitPixels = NDArray[np.float32]
Rng = np.random.Generator


def stroke_mask(rng: Rng, size: int) -> UnitPixels:
    """Draws a stroke that tapers off, (size, size), 0 or 1; maybe outside, so none."""
    points = max(2, round(size * _log_uniform(rng, *LENGTH) / STEP))
    turns = rng.normal(0, BEND) + rng.normal(0, rng.uniform(*ROUGHNESS), points)
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(STEP * turns)
    rows, columns = (
        rng.uniform(0, size) + np.cumsum(STEP * way) for way in (np.sin(angles), np.cos(angles))
    )
    tapering = 1 - np.linspace(0, 1, points) ** 2
    widths = size * _log_uniform(rng, *HALF_WIDTH) * tapering
    widths *= np.exp(rng.normal(0, UNEVENNESS, points))
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for row, column, width in zip(rows, columns, widths, strict=True):
        draw.ellipse((column - width, row - width, column + width, row + width), fill=1)
    return np.asarray(picture, np.float32)


def softened(rng: Rng, mask: UnitPixels) -> UnitPixels:
    """Blurs the edges of a mask (1, H, W) by a random width."""
    soft: UnitPixels = gaussian_filter(mask, rng.uniform(0, BLUR), axes=(1, 2))
    return soft


def shade_of(rng: Rng, pixels: UnitPixels) -> UnitPixels:
    """Returns an image (C, H, W) in the shade of one of its pixels, drawn at random."""
    row, column = (int(rng.integers(side)) for side in pixels.shape[1:])
    return np.broadcast_to(pixels[:, row, column, None, None], pixels.shape)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
