"""The augmentation of textures: three of ten random changes (as in DRAEM and RealNet)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from sia_gen.images.loading import to_picture, to_pixels

CHANGES_AT_A_TIME = 3

Rng = np.random.Generator
Change = Callable[[Image.Image, Rng], Image.Image]


def augment(pixels: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Changes an image (C, H, W), 0 to 255, in three random ways."""
    picture = to_picture(pixels)
    for place in rng.permutation(len(CHANGES))[:CHANGES_AT_A_TIME]:
        picture = CHANGES[place](picture, rng)
    return to_pixels(picture)


def change_gamma(picture: Image.Image, rng: Rng) -> Image.Image:
    """Raises each channel to a power of 0.5 to 2."""
    bands = len(picture.getbands())
    exponents = rng.uniform(0.5, 2.0, size=bands)
    levels = np.arange(256) / 255
    tables = [np.rint(255 * levels**exponent).astype(int).tolist() for exponent in exponents]
    return picture.point([value for table in tables for value in table])


def change_brightness(picture: Image.Image, rng: Rng) -> Image.Image:
    """Multiplies by 0.8 to 1.2 and adds -30 to 30."""
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return picture.point(lambda value: value * factor + offset)


def change_sharpness(picture: Image.Image, rng: Rng) -> Image.Image:
    """Blurs (below 1) or sharpens (above 1)."""
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(0.0, 3.0))


def change_colour(picture: Image.Image, rng: Rng) -> Image.Image:
    """Shifts the hue and scales the saturation of a picture in colour."""
    if picture.mode != "RGB":
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turn, factor = int(rng.integers(-36, 37)), rng.uniform(0.5, 1.5)
    turned = hue.point(lambda level: (level + turn) % 256)
    scaled = saturation.point(lambda level: level * factor)
    return Image.merge("HSV", (turned, scaled, value)).convert("RGB")


def solarize(picture: Image.Image, rng: Rng) -> Image.Image:
    """Inverts the levels above a threshold of 32 to 128."""
    return ImageOps.solarize(picture, int(rng.integers(32, 129)))


def posterize(picture: Image.Image, rng: Rng) -> Image.Image:
    """Keeps 2 to 6 bits."""
    return ImageOps.posterize(picture, int(rng.integers(2, 7)))


def invert(picture: Image.Image, rng: Rng) -> Image.Image:
    """Inverts all levels."""
    return ImageOps.invert(picture)


def autocontrast(picture: Image.Image, rng: Rng) -> Image.Image:
    """Stretches the levels to the full range."""
    return ImageOps.autocontrast(picture)


def equalize(picture: Image.Image, rng: Rng) -> Image.Image:
    """Makes all levels equally frequent."""
    return ImageOps.equalize(picture)


def rotate(picture: Image.Image, rng: Rng) -> Image.Image:
    """Rotates by -45 to 45 degrees; the corners become black."""
    return picture.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)


CHANGES: tuple[Change, ...] = (
    change_gamma,
    change_brightness,
    change_sharpness,
    change_colour,
    solarize,
    posterize,
    invert,
    autocontrast,
    equalize,
    rotate,
)
