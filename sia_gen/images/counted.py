"""Reads images as they are scored, and which of their pixels count.

Padding never counts, nor what a recipe ignores in photographs that are cut into tiles.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.errors import ImageError
from sia_gen.images.loading import ImageSpec, Pixels, load_photograph, load_with_area
from sia_gen.images.masks import read_marks, within
from sia_gen.images.squares import Area

Counted = NDArray[np.bool_]


def load_scored(path: Path, spec: ImageSpec) -> tuple[Pixels, Area | Counted]:
    """Reads an image as it is scored, and returns what counts in it.

    A square image (C, size, size) has the area of its picture. A whole photograph (C, H, W) that is
    cut into tiles has a mask (H, W) if the recipe ignores some of it.
    """
    if spec.tile is None:
        return load_with_area(path, spec)
    photograph, counted = load_with_counted(path, spec)
    height, width = photograph.shape[-2:]
    return photograph, Area(0, height, 0, width) if counted is None else counted


def load_counted(path: Path, spec: ImageSpec) -> Counted | None:
    """Returns which pixels of a photograph count, (H, W) in its own size; None if all do.

    Raises:
        ImageError: If the mask is missing, or has another size than the photograph.
    """
    if spec.ignore is None:
        return None
    mask = Path(spec.ignore.format(stem=path.stem))
    if not mask.exists():
        if "{stem}" in spec.ignore:
            return None
        raise ImageError(
            problem=f"there is no mask {mask} of what to ignore.",
            fix="Give its path with --ignore, or set 'data.ignore' in the recipe.",
        )
    return ~within(read_marks(mask, of=path), spec)


def at_scale(counted: Counted, shape: tuple[int, int]) -> Counted:
    """Returns which pixels count in another height and width: those that show nothing ignored."""
    if counted.shape == shape:
        return counted
    picture = Image.fromarray(counted * np.uint8(255))
    height, width = shape
    found: Counted = np.asarray(picture.resize((width, height), Image.Resampling.BOX)) == 255
    return found


def load_with_counted(path: Path, spec: ImageSpec) -> tuple[Pixels, Counted | None]:
    """Reads a photograph at the scale of its tiles, and which of its pixels count.

    Those that do not have the mean colour of the others, so that nothing is seen of them.
    """
    photograph, counted = load_photograph(path, spec), load_counted(path, spec)
    if counted is None:
        return photograph, None
    counted = at_scale(counted, (photograph.shape[-2], photograph.shape[-1]))
    mean = photograph[:, counted].mean(axis=1) if counted.any() else np.zeros(len(photograph))
    photograph[:, ~counted] = mean.round().astype(np.uint8)[:, None]
    return photograph, counted


def load_visible(path: Path, spec: ImageSpec) -> Pixels:
    """Returns the photograph of `load_with_counted` alone."""
    return load_with_counted(path, spec)[0]


def counted_plane(pair: tuple[Path, tuple[int, int]], spec: ImageSpec) -> Pixels:
    """Returns which pixels count, (1, H, W), 1 or 0, of a photograph of some height and width."""
    path, shape = pair
    counted = load_counted(path, spec)
    whole = np.ones(shape, bool) if counted is None else at_scale(counted, shape)
    return whole[None].astype(np.uint8)
