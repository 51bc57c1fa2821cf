"""Where the object of a normal image is, by the rule of a recipe (paper section 3.1).

The rules and their order (a threshold, closing, opening) are those of the authors' code.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import grey_closing, grey_opening
from skimage.filters import threshold_otsu, threshold_triangle

from sia_gen.config.data import Foreground

THRESHOLDS: dict[str, Any] = {"otsu": threshold_otsu, "triangle": threshold_triangle}
COLOURS = ("red", "green", "blue")
Pixels = NDArray[np.uint8]
# The side of the images for which recipes give the sides of kernels.
REFERENCE_SIZE = 256


def finds_objects(rule: Foreground | None) -> TypeGuard[Foreground]:
    """Whether a rule takes less than all of every image for the object."""
    return rule is not None and rule.method != "none"


def foreground_masks(images: Pixels, rule: Foreground) -> Pixels:
    """The foreground of each image (N, C, H, W), 0 to 255: (N, 1, H, W), 1 on the object."""
    return np.stack([foreground_mask(image, rule) for image in images])


def foreground_mask(image: Pixels, rule: Foreground) -> Pixels:
    """The foreground of an image, (C, H, W), 0 to 255.

    Returns:
        (1, H, W), 1 on the object. It is 1 everywhere if the rule finds no object, as in an image
        of one colour.
    """
    if rule.method == "none":
        return np.ones_like(image[:1])
    values = channel_of(image, rule.channel)
    bright = values > THRESHOLDS[rule.method](values)
    mask: Pixels = (bright if rule.polarity == "bright" else ~bright).astype(np.uint8)
    for smooth, side in ((grey_closing, rule.close), (grey_opening, rule.open)):
        if side:
            # It mirrors the image at its edges, so that an object may touch them.
            mask = smooth(mask, size=(kernel_side(side, len(mask)),) * 2)
    return mask[None] if mask.any() else np.ones_like(mask)[None]


def channel_of(image: Pixels, channel: str) -> Pixels:
    """One channel, or the luminance, of an image (C, H, W) as (H, W)."""
    if len(image) == 1 or channel in COLOURS:
        values: Pixels = image[0 if len(image) == 1 else COLOURS.index(channel)]
        return values
    return np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))


def kernel_side(side: int, size: int) -> int:
    """The side of a kernel for images of `size` pixels, at least 1."""
    return max(1, round(side * size / REFERENCE_SIZE))
