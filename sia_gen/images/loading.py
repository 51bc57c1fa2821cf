"""Loads images as the square arrays of one mode and size that training works on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sia_gen.errors import ImageError

NonSquare = Literal["crop", "stretch"] | None


def load_image(
    path: Path, mode: Literal["L", "RGB"], size: int, non_square: NonSquare = None
) -> NDArray[np.uint8]:
    """Reads an image file.

    Args:
        path: The file.
        mode: `"L"` for grey, `"RGB"` for colour.
        size: Side of the result, in pixels.
        non_square: What to do with images that are not square: crop their centre, or stretch them.

    Returns:
        (C, size, size), 0 to 255, C = 1 or 3.

    Raises:
        ImageError: If it cannot be decoded, or is not square and `non_square` is None.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            problem=f"cannot read the image {path}: {' '.join(str(error).split())}.",
            fix="Replace the file, or take it out of the data set.",
        ) from error
    pixels = np.asarray(to_square(image, path, size, non_square), dtype=np.uint8)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def to_square(image: Image.Image, path: Path, size: int, non_square: NonSquare) -> Image.Image:
    """Resizes to `size` x `size`, bicubic with antialiasing."""
    if image.width != image.height and non_square is None:
        raise ImageError(
            problem=f"{path} is {image.width} x {image.height} pixels, not square.",
            fix="Set 'data.non_square' in the recipe to 'crop' (keeps the centre) or 'stretch'.",
        )
    if non_square == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def load_images(
    paths: list[Path], mode: Literal["L", "RGB"], size: int, non_square: NonSquare = None
) -> NDArray[np.uint8]:
    """Reads images of one category into memory, (N, C, size, size)."""
    return np.stack([load_image(path, mode, size, non_square) for path in paths])
