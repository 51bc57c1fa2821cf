"""Where samples are perturbed: everywhere, or only in a region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label, maximum

from sia_gen.anomalies.paste import local_mask
from sia_gen.config.settings import EVERYWHERE, REGIONS, Twins
from sia_gen.config.strength import WHITE
from sia_gen.corpus.plan import SampleIdentity
from sia_gen.corpus.sampling import generators
from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, Pixels
from sia_gen.images.masks import read_mask
from sia_gen.sdas.perturbation import draw_fields, field_seeds

# Sides of a box as shares of the image's.
BOX_SIDES = (1 / 8, 1 / 2)
# Share of the foreground that natural outlines enclose.
NATURAL_AREAS = (0.005, 0.08)
# Largest number of separate parts that they enclose.
MOST_PARTS = 3
# Factor by which the share above a threshold grows from one try to the next.
WIDER, TRIES = 1.5, 12
# Part of the way from the outline to the peak of a field over which an edge is soft.
SOFT_EDGE = 0.5


def require_region(name: str, spec: ImageSpec) -> None:
    """Raises `ImageError` if a region is the file of a mask that is unreadable or marks nothing."""
    if name not in REGIONS and not read_mask(Path(name), spec).any():
        raise ImageError(
            problem=f"the mask {name} marks nothing in images of {spec.size} x {spec.size} pixels.",
            fix="Save it as PNG, 0 where images stay as they are and 255 where they change.",
        )


def local_strength(
    settings: Twins,
    identities: Sequence[SampleIdentity],
    spec: ImageSpec,
    foregrounds: Sequence[Pixels],
    pixel_aspect_ratios: Sequence[float] = (),
) -> torch.Tensor:
    """Returns the strength of some samples, (B,), or if they have regions, (B, 1, H, W).

    The foregrounds are where the object is in the photograph of each, (1, H, W), or an empty list;
    the aspect ratios are those of photographs that were stretched, or an empty list.
    """
    strengths = torch.tensor([identity.strength for identity in identities], dtype=torch.float32)
    if settings.region == EVERYWHERE:
        return strengths
    around = foregrounds or [whole(spec)] * len(identities)
    ratios = pixel_aspect_ratios or [1.0] * len(identities)
    masks = [
        region(settings.region, one.seed, one.perturbation, spec, foreground, ratio)
        for one, foreground, ratio in zip(identities, around, ratios, strict=True)
    ]
    # A mask scales the noise, so its square scales the variance.
    return strengths.view(-1, 1, 1, 1) * torch.from_numpy(np.stack(masks)).square()


def whole(spec: ImageSpec) -> Pixels:
    """Returns the foreground of an image without a rule for it, (1, size, size)."""
    return np.ones((1, spec.size, spec.size), np.uint8)


def region(
    name: str,
    seed: int,
    perturbation: str,
    spec: ImageSpec,
    foreground: Pixels,
    pixel_aspect_ratio: float = 1.0,
) -> NDArray[np.float32]:
    """Returns the region of a sample, (1, size, size), in [0, 1]; only natural ones are soft."""
    # Its numbers differ from those of the sample's noise, but follow from the same seed.
    rng = np.random.default_rng((seed, 1))
    if name == "natural":
        # White and pink noise have no outlines. Blobs of the same numbers take their place.
        kind = "blobs" if perturbation in (WHITE, "pink") else perturbation
        seeds, shape = field_seeds(generators([seed]), 1), (len(spec.mode), spec.size, spec.size)
        field = draw_fields([kind], shape, seeds, torch.device("cpu"), [pixel_aspect_ratio])[0]
        return _natural(rng, field.numpy(), foreground)
    if name == "perlin":
        return local_mask(rng, spec.size, foreground)
    if name == "box":
        return _box(rng, spec.size)
    if name == "foreground":
        return foreground.astype(np.float32)
    return read_mask(Path(name), spec)[None].astype(np.float32)


def _natural(
    rng: np.random.Generator, field: NDArray[np.float32], foreground: Pixels
) -> NDArray[np.float32]:
    """Encloses where the field of a sample, (C, H, W), is farthest from 0."""
    magnitude = np.abs(field.mean(axis=0, keepdims=True))
    inside = magnitude[foreground > 0]
    low, high = NATURAL_AREAS
    area, most = low * (high / low) ** rng.random(), int(rng.integers(1, MOST_PARTS + 1))
    # The fewer parts are kept, the lower is the threshold at which they are as large as drawn.
    threshold, kept = np.inf, np.zeros_like(magnitude, bool)
    for share in area * WIDER ** np.arange(TRIES):
        lower = float(np.quantile(inside, max(0, 1 - share)))
        parts = _strongest_parts(np.where(foreground > 0, magnitude, 0), lower, most)
        if kept.sum() >= low * inside.size and parts.sum() > area * inside.size:
            break
        threshold, kept = lower, parts
    # A single pixel is its own threshold, and has to be inside.
    least = 1e-6
    rise = SOFT_EDGE * (inside.max() - threshold) + least
    mask: NDArray[np.float64] = ((magnitude - threshold + least) / rise).clip(0, 1) * kept
    return mask.astype(np.float32)


def _strongest_parts(
    magnitude: NDArray[np.float32], threshold: float, most: int
) -> NDArray[np.bool_]:
    """Returns the parts (1, H, W) that reach a threshold; of many, those with the highest peaks."""
    parts, number = label(magnitude >= threshold)
    peaks = maximum(magnitude, parts, range(1, number + 1))
    strongest = 1 + np.argsort(peaks)[::-1][:most]
    found: NDArray[np.bool_] = np.isin(parts, strongest)
    return found


def _box(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    low, high = (max(1, round(share * size)) for share in BOX_SIDES)
    height, width = (int(rng.integers(low, high + 1)) for _ in range(2))
    top, left = (int(rng.integers(0, size - side + 1)) for side in (height, width))
    mask = np.zeros((1, size, size), np.float32)
    mask[:, top : top + height, left : left + width] = 1
    return mask
