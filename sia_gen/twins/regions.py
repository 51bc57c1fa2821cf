"""Where samples are perturbed: everywhere, or only in a region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sia_gen.anomalies.paste import local_mask
from sia_gen.config.settings import EVERYWHERE, REGIONS, Twins
from sia_gen.corpus.plan import SampleIdentity
from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, Pixels, read_mask

# Sides of a box as shares of the image's.
BOX_SIDES = (1 / 8, 1 / 2)


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
) -> torch.Tensor:
    """Returns the strength of some samples, (B,), or if they have regions, (B, 1, H, W).

    The foregrounds are where the object is in the photograph of each, (1, H, W), or an empty list.
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
    name: str, identity: SampleIdentity, spec: ImageSpec, foreground: Pixels
) -> NDArray[np.float32]:
    """Returns the region of a sample, (1, size, size), values 0 and 1."""
    # Its numbers differ from those of the sample's noise, but follow from the same seed.
    rng = np.random.default_rng((identity.seed, 1))
    if name == "perlin":
        return local_mask(rng, spec.size, foreground)
    if name == "box":
        return _box(rng, spec.size)
    if name == "foreground":
        return foreground.astype(np.float32)
    return read_mask(Path(name), spec)[None].astype(np.float32)


def _box(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    low, high = (max(1, round(share * size)) for share in BOX_SIDES)
    height, width = (int(rng.integers(low, high + 1)) for _ in range(2))
    top, left = (int(rng.integers(0, size - side + 1)) for side in (height, width))
    mask = np.zeros((1, size, size), np.float32)
    mask[:, top : top + height, left : left + width] = 1
    return mask
