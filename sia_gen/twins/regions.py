"""Where a sample is disturbed: everywhere, or in a region that its seed decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sia_gen.anomalies.paste import local_mask
from sia_gen.config.settings import EVERYWHERE, REGIONS, Twins
from sia_gen.corpus.plan import SampleIdentity
from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec
from sia_gen.images.test_set import read_mask

# Sides of a box, as shares of the image's.
BOX_SIDES = (1 / 8, 1 / 2)

Pixels = NDArray[np.uint8]


def require_region(name: str, spec: ImageSpec) -> None:
    """Refuses the file of a mask that cannot be used; arguments as for `region`.

    Raises:
        ImageError: If it cannot be read, is no mask, or marks nothing.
    """
    if name not in REGIONS and not read_mask(Path(name), spec).any():
        raise ImageError(
            problem=f"the mask {name} marks nothing in images of {spec.size} x {spec.size} pixels.",
            fix="Save it as PNG, 0 where images stay as they are and 255 where they change.",
        )


def strength_of(
    settings: Twins,
    identities: Sequence[SampleIdentity],
    spec: ImageSpec,
    foregrounds: Sequence[Pixels],
) -> torch.Tensor:
    """The strength of some samples, (B,), or in a region alone, (B, 1, H, W).

    Args:
        settings: Say where.
        identities: Of the samples.
        spec: Its size is H and W.
        foregrounds: Where the object is in the photograph of each, (1, H, W); empty if anywhere.
    """
    strengths = torch.tensor([identity.strength for identity in identities], dtype=torch.float32)
    if settings.region == EVERYWHERE:
        return strengths
    around = foregrounds or [np.ones((1, spec.size, spec.size), np.uint8)] * len(identities)
    masks = [
        region(settings.region, identity, spec, foreground)
        for identity, foreground in zip(identities, around, strict=True)
    ]
    return strengths.view(-1, 1, 1, 1) * torch.from_numpy(np.stack(masks))


def region(
    name: str,
    identity: SampleIdentity,
    spec: ImageSpec,
    foreground: Pixels,
) -> NDArray[np.float32]:
    """One region, (1, size, size), values 0 and 1."""
    # Other numbers than those of the sample's noise, from the same seed.
    rng = np.random.default_rng((identity.seed, 1))
    if name == "perlin":
        return local_mask(rng, spec.size, foreground)
    if name == "box":
        return box(rng, spec.size)
    if name == "foreground":
        return foreground.astype(np.float32)
    return read_mask(Path(name), spec)[None].astype(np.float32)


def box(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A rectangle somewhere, (1, size, size), values 0 and 1."""
    low, high = (max(1, round(share * size)) for share in BOX_SIDES)
    height, width = (int(rng.integers(low, high + 1)) for _ in range(2))
    top, left = (int(rng.integers(0, size - side + 1)) for side in (height, width))
    mask = np.zeros((1, size, size), np.float32)
    mask[:, top : top + height, left : left + width] = 1
    return mask
