"""The augmentation of textures: three of ten random changes (as in DRAEM and RealNet)."""

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
    picture, changes = to_picture(pixels), list(CHANGES.values())
    for place in rng.permutation(len(changes))[:CHANGES_AT_A_TIME]:
        picture = changes[place](picture, rng)
    return to_pixels(picture)


def _change_gamma(picture: Image.Image, rng: Rng) -> Image.Image:
    bands = len(picture.getbands())
    exponents = rng.uniform(0.5, 2.0, size=bands)
    levels = np.arange(256) / 255
    tables = [np.rint(255 * levels**exponent).astype(int).tolist() for exponent in exponents]
    return picture.point([value for table in tables for value in table])


def _change_brightness(picture: Image.Image, rng: Rng) -> Image.Image:
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return picture.point(lambda value: value * factor + offset)


def _change_sharpness(picture: Image.Image, rng: Rng) -> Image.Image:
    # Below 1 it is blurred, above 1 sharpened.
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(0.0, 3.0))


def _change_colour(picture: Image.Image, rng: Rng) -> Image.Image:
    """Shifts the hue and scales the saturation of a picture in colour."""
    if picture.mode != "RGB":
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    shift, factor = int(rng.integers(-36, 37)), rng.uniform(0.5, 1.5)
    shifted = hue.point(lambda level: (level + shift) % 256)
    scaled = saturation.point(lambda level: level * factor)
    return Image.merge("HSV", (shifted, scaled, value)).convert("RGB")


def _rotate(picture: Image.Image, rng: Rng) -> Image.Image:
    return picture.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)


CHANGES: dict[str, Change] = {
    "gamma": _change_gamma,
    "brightness": _change_brightness,
    "sharpness": _change_sharpness,
    "colour": _change_colour,
    "solarize": lambda picture, rng: ImageOps.solarize(picture, int(rng.integers(32, 129))),
    "posterize": lambda picture, rng: ImageOps.posterize(picture, int(rng.integers(2, 7))),
    "invert": lambda picture, _: ImageOps.invert(picture),
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "rotate": _rotate,
}
