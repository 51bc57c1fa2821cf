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
        path: The file; `read_image` tells what becomes of its kind.
        mode: `"L"` for grey, `"RGB"` for colour.
        size: Side of the result, in pixels.
        non_square: What to do with images that are not square: crop their centre, or stretch them.

    Returns:
        (C, size, size), 0 to 255, C = 1 or 3.

    Raises:
        ImageError: If it cannot be decoded, or is not square and `non_square` is None.
    """
    image = read_image(path).convert(mode)
    pixels = np.asarray(to_square(image, path, size, non_square), dtype=np.uint8)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def read_image(path: Path) -> Image.Image:
    """Reads an image file of any kind, turned upright as its EXIF data say.

    16 bits become 8 over the whole range. Transparent pixels are put on black, as parts are that
    were cut out. Of several frames the first is read: in photographs the others are previews.

    Returns:
        An image of mode `"L"` or `"RGB"`.

    Raises:
        ImageError: If it cannot be decoded, or the range of its pixels is not known.
    """
    try:
        with Image.open(path) as file:
            return to_eight_bits(ImageOps.exif_transpose(file))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            problem=f"cannot read the image {path}: {' '.join(str(error).split())}.",
            fix="Replace the file, or take it out of the data set.",
        ) from error


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as `"L"` or `"RGB"`; ValueError if the range of values is not known."""
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floating-point numbers"
        msg = f"its pixels are {kind} of 32 bits, of which white is not known; save it with 8 or 16"
        raise ValueError(msg)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "black")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def to_square(
    image: Image.Image,
    path: Path,
    size: int,
    non_square: NonSquare,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resizes to `size` x `size`, with antialiasing."""
    if image.width != image.height and non_square is None:
        raise ImageError(
            problem=f"{path} is {image.width} x {image.height} pixels, not square.",
            fix="Set 'data.non_square' in the recipe to 'crop' (keeps the centre) or 'stretch'.",
        )
    if non_square == "crop":
        return ImageOps.fit(image, (size, size), resampling)
    return image.resize((size, size), resampling)


def load_images(
    paths: list[Path], mode: Literal["L", "RGB"], size: int, non_square: NonSquare = None
) -> NDArray[np.uint8]:
    """Reads images of one category into memory, (N, C, size, size)."""
    return np.stack([load_image(path, mode, size, non_square) for path in paths])


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """An image (C, H, W), 0 to 255, as a picture of mode L or RGB."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode L or RGB as an image (C, H, W), 0 to 255."""
    return np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1)
