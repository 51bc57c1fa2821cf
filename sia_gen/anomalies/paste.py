"""Anomalies for training: pieces of SDAS images pasted into normal images (paper section 3.1).

    A = M * (delta * P + (1 - delta) * N) + (1 - M) * N

N is a normal image, P a synthetic anomalous image of the same category, M a Perlin mask within the
foreground of N and delta the opacity. Part of each batch stays normal, with an empty mask.

Some of the masks may be strokes instead of Perlin masks (`strokes.py`). Then edges are soft and
some pieces have one shade, so that neither sharp edges nor textures are what tells anomalies.

Twins may replace A, N and M: an SDAS image, the image of the same noise at strength 0, and the mask
of their difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from torch.utils.data import Dataset

from sia_gen.anomalies.sources import Piece, Source, TwinSource
from sia_gen.anomalies.strokes import shade_of, softened, stroke_mask
from sia_gen.images.by_number import Images, numbers_of
from sia_gen.images.loading import Pixels
from sia_gen.images.squares import Area
from sia_gen.train.batches import BatchOrder, random_flips

# A foreground that this many Perlin masks miss is small enough to be anomalous as a whole.
MAX_DRAWS = 32
# Perlin noise above this is anomalous; it has 1 to 2**5 cells in a row.
THRESHOLD = 0.5
MAX_SCALE_EXPONENT = 5
# Share of the pieces that have one shade, where edges are soft.
PLAIN = 0.5

UnitPixels = NDArray[np.float32]
# A and N, (C, H, W) in [0, 1], and M, (1, H, W), values 0 and 1.
Sample = tuple[UnitPixels, UnitPixels, UnitPixels]
Rng = np.random.Generator
DrawMask = Callable[[Rng, int], UnitPixels]


class AnomalyBatch(NamedTuple):
    """A and N, (B, C, H, W) in [0, 1], and M, (B, 1, H, W), values 0 and 1; all float32.

    The number of each N, (B,), is that of the photograph that shows it.
    """

    anomalous: torch.Tensor
    normal: torch.Tensor
    mask: torch.Tensor
    number: torch.Tensor


@dataclass(frozen=True)
class LocalAnomalies:
    """Normal images N, and what makes anomalies of a share of them, `anomalous_fraction`."""

    normal: Images
    sources: Sequence[Source]  # of the images P and the range of delta, one per category
    anomalous_fraction: float = 1.0
    horizontal_flip: bool = False  # whether N and P are mirrored at random
    vertical_flip: bool = False
    foreground: Images | None = None  # pixels that may be anomalous, (1, H, W), 1 or 0; None: all
    groups: NDArray[np.int64] | None = None  # number of the source of each N; None: the first
    areas: Sequence[Area] | None = None  # of the picture in each padded N; None: no padding
    counted: Images | None = None  # pixels of each N that count, (1, H, W), 1 or 0; None: all
    twins: Sequence[TwinSource] = ()  # one per category
    twin_fraction: float = 0.0  # share of the anomalies that are twins
    stroke_fraction: float = 0.0  # share of the pieces that are pasted through strokes

    def sample(self, index: int, rng: Rng, number: int) -> Sample:
        """Makes a sample of the normal image `index`; equal states of `rng` give equal samples.

        `number` is the number of the sample in the whole training, which the sources count by.
        """
        normal, foreground = self.flipped(index, rng)
        if rng.random() >= self.anomalous_fraction:
            return normal, normal, np.zeros_like(normal[:1])
        group = 0 if self.groups is None else int(self.groups[index])
        if self.twins and rng.random() < self.twin_fraction:
            twin = np.concatenate(self.twins[group].draw(number))
            twin = random_flips(twin, rng, self.horizontal_flip, self.vertical_flip)
            channels = len(normal)
            anomalous, normal, mask = np.split(to_unit_range(twin), [channels, 2 * channels])
            return anomalous, normal, mask
        piece = self.sources[group].draw(number, rng)
        anomalous, mask, _ = self.paste(piece, normal, foreground, rng)
        return anomalous, normal, mask

    def paste(
        self, piece: Piece, normal: UnitPixels, foreground: Pixels | None, rng: Rng
    ) -> tuple[UnitPixels, UnitPixels, float]:
        """Returns A, (C, H, W) in [0, 1], M, (1, H, W), and delta for a P and an N."""
        flips = (self.horizontal_flip, self.vertical_flip)
        pasted = to_unit_range(random_flips(piece.pixels, rng, *flips))
        stroke = self.stroke_fraction > 0 and rng.random() < self.stroke_fraction
        draw = stroke_mask if stroke else perlin_mask
        mask = weight = local_mask(rng, normal.shape[-1], foreground, draw)
        if self.stroke_fraction > 0:
            # Nor does a soft edge lie where nothing may be pasted.
            weight = softened(rng, mask) * (1 if foreground is None else foreground)
            pasted = shade_of(rng, pasted) if rng.random() < PLAIN else pasted
        opacity = np.float32(rng.uniform(*piece.opacity))
        return blend(normal, pasted, weight, opacity), mask, float(opacity)

    def flipped(self, index: int, rng: Rng) -> tuple[UnitPixels, Pixels | None]:
        """Returns N, (C, H, W) in [0, 1], and its foreground, flipped alike."""
        flips = (self.horizontal_flip, self.vertical_flip)
        if self.foreground is None:
            return to_unit_range(random_flips(self.normal[index], rng, *flips)), None
        both = np.concatenate([self.normal[index], self.foreground[index]])
        both = random_flips(both, rng, *flips)
        return to_unit_range(both[:-1]), both[-1:]


def local_mask(
    rng: Rng, size: int, foreground: Pixels | None, draw: DrawMask | None = None
) -> UnitPixels:
    """Draws a mask within a foreground, (1, size, size), all zeros only if that is.

    It is a Perlin mask unless another `draw` is given.

    If `MAX_DRAWS` masks in a row miss the foreground, the mask is the whole foreground.
    """
    allowed = np.ones((1, size, size), np.uint8) if foreground is None else foreground
    for _ in range(MAX_DRAWS if allowed.any() else 0):
        mask = (draw or perlin_mask)(rng, size)[None] * allowed
        if mask.any():
            return mask
    return allowed.astype(np.float32)


def perlin_mask(rng: Rng, size: int) -> UnitPixels:
    """Draws blobs, (size, size), 0 or 1: rotated Perlin noise above a threshold; maybe none."""
    rows, columns = (int(2 ** rng.integers(0, MAX_SCALE_EXPONENT + 1)) for _ in range(2))
    noise = perlin_noise(rng, size, rows, columns)
    angle = rng.uniform(-90, 90)
    turned: NDArray[np.float64] = rotate(noise, angle, reshape=False, order=1)
    return (turned > THRESHOLD).astype(np.float32)


def perlin_noise(rng: Rng, size: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Returns Perlin's gradient noise, (size, size), about [-1, 1], zero on corners of cells."""
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


def to_unit_range(image: Pixels) -> UnitPixels:
    """Scales pixels from 0 to 255 to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def blend(
    normal: UnitPixels, pasted: UnitPixels, weight: UnitPixels, opacity: np.float32
) -> UnitPixels:
    """Pastes `pasted` into `normal` with `opacity` where `weight` is 1, and less below."""
    share = opacity * weight
    return np.where(weight > 0, share * pasted + (1 - share) * normal, normal)


@dataclass(frozen=True, eq=False)
class AnomalyBatches(Dataset[AnomalyBatch]):
    """Item `step` is the batch of that step; samples depend on (seed, epoch, index) only."""

    anomalies: LocalAnomalies
    order: BatchOrder

    def __getitem__(self, step: int) -> AnomalyBatch:
        positions = self.order.positions(step)
        samples = [
            self.anomalies.sample(index, self.order.rng(epoch, index), number)
            for number, (epoch, index) in enumerate(positions, self.order.first(step))
        ]
        anomalous, normal, mask = (
            torch.from_numpy(np.stack(images)) for images in zip(*samples, strict=True)
        )
        shown = numbers_of(self.anomalies.normal)
        number = torch.from_numpy(shown[[index for _, index in positions]])
        return AnomalyBatch(anomalous, normal, mask, number)
