"""Reads masks of ground truth: which pixels of an image are anomalous.

| mask | pixels that it marks |
|---|---|
| two values | those of the higher one |
| numbers of defects, in values, greys or colours of a palette | all but 0 or the first colour |
| colours | all that are not black |
| nearly two values, as after JPEG or resizing | those above half of the highest value |
| transparent | as on black; all that are not transparent if everything else is black |
| a folder of masks | those that any of them marks |
| many values | none: it is refused, because it may be a photograph |
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from sia_gen.errors import ImageError
from sia_gen.images.files import is_image
from sia_gen.images.loading import ImageSpec
from sia_gen.images.opening import (
    has_deep_colours,
    open_image,
    to_eight_bits,
    upright,
    upright_size,
)
from sia_gen.images.squares import to_square

# Masks may number their defects, but photographs have more levels than this.
MOST_LEVELS = 32
# What has no more levels than this, and 0 among them, is hardly a photograph.
FEW_LEVELS = 16
# Values nearer than this to 0 or to the highest, as a share of the highest, are taken for these.
NEAR = 1 / 8
# Largest share of pixels that edges leave between the two.
MOST_BETWEEN = 0.1
# Formats that change values, so that no numbers survive in them.
LOSSY = ("JPEG", "MPO")
# What a mask marks if it shows normal pixels in white: most pixels, and nearly all at its edge.
MOST_MARKED, MOST_OF_EDGE = 0.5, 0.9

Marks = NDArray[np.bool_]


def read_mask(path: Path, spec: ImageSpec, *, of: Path | None = None) -> Marks:
    """Returns which pixels a mask marks, (size, size), after checks that it is one of image `of`.

    The mode of `spec` does not matter.
    """
    marks = read_marks(path, of=of)
    # Another mask has no photograph that a region of interest could be in.
    picture = Image.fromarray((marks if of is None else within(marks, spec)) * np.uint8(255))
    # A pixel is marked if more than half of it was before resizing.
    square = to_square(
        picture, path, spec.size, spec.non_square, resampling=Image.Resampling.BOX, padding=0
    )
    return np.asarray(square) > 127


def within(marks: Marks, spec: ImageSpec) -> Marks:
    """Returns which pixels of the region of interest are marked."""
    if spec.roi is None:
        return marks
    left, top, right, bottom = spec.roi
    return marks[top:bottom, left:right]


def read_marks(path: Path, *, of: Path | None = None, size: tuple[int, int] | None = None) -> Marks:
    """Returns which pixels a mask marks in its own size, (H, W); see `read_mask`.

    `size` is the width and height that it has to have, if it is not of an image in a file.
    """
    files = files_of(path)
    size = size if of is None else upright_size(of)
    found = [_read_one(file, size) for file in files]
    if len({marks.shape for marks in found}) > 1:
        raise ImageError(problem=f"the masks in {path} differ in size.", fix="Save them in one.")
    marks: Marks = np.logical_or.reduce(found)
    return marks


def files_of(path: Path) -> list[Path]:
    """Returns the files of a mask: itself, or the images in its folder."""
    files = sorted(one for one in path.iterdir() if is_image(one)) if path.is_dir() else [path]
    if not files:
        raise ImageError(problem=f"the folder {path} has no mask in it.", fix="Add one.")
    return files


def looks_inverted(marks: Marks) -> bool:
    """Whether a mask seems to mark what is normal: the edge of the image and most of the rest."""
    edge = np.concatenate([marks[0], marks[-1], marks[:, 0], marks[:, -1]])
    return bool(marks.mean() > MOST_MARKED and edge.mean() > MOST_OF_EDGE)


def looks_like_mask(path: Path) -> bool:
    """Whether an image seems to be a mask by its few values; False if it cannot be read."""
    try:
        with open_image(path, "mask", large=True) as file:
            # Pillow gives few values of colours that have more than 8 bits.
            if has_deep_colours(file):
                return False
            levels = np.unique(_values(upright(file)))
    except ImageError:
        # Whoever needs the image says so.
        return False
    return len(levels) <= FEW_LEVELS and not levels[0]


def _read_one(path: Path, size: tuple[int, int] | None) -> Marks:
    if size is not None and (own := upright_size(path, "mask")) != size:
        raise ImageError(
            problem=f"the mask {path} is {own[0]} x {own[1]} pixels, its image "
            f"{size[0]} x {size[1]}.",
            fix="Save the mask in the size of the image.",
        )
    # It has as many pixels as its image, which may be large.
    with open_image(path, "mask", large=size is not None) as file:
        lossy = file.format in LOSSY
        values = _values(upright(file))
    marks = _marked(values, lossy=lossy)
    if marks is None:
        raise ImageError(
            problem=f"the mask {path} is not binary: it has {len(np.unique(values))} levels, "
            f"the highest {values.max():g}.",
            fix="Save it as PNG, 0 where the image is normal and 255 where it is not.",
        )
    return marks


def _values(mask: Image.Image) -> NDArray[Any]:
    """Returns the value of each pixel, (H, W), 0 where it is certainly normal."""
    if mask.has_transparency_data:
        shown = np.atleast_3d(np.asarray(to_eight_bits(mask))).max(axis=2)
        return shown if shown.any() else np.asarray(mask.convert("RGBA").getchannel("A"))
    if mask.mode == "P" and (mask.getpalette() or [])[:3] == [0, 0, 0] and not _is_grey(mask):
        numbers = np.asarray(mask)
        # Numbers are exact, so that 1 is as far from 0 as 255 is, unless it is a photograph.
        return numbers > 0 if len(np.unique(numbers)) <= MOST_LEVELS else numbers
    # Levels of 16 or 32 bits stay as they are, because rounding to 8 bits would lose the first.
    if len(mask.getbands()) > 1 or mask.mode == "P":
        mask = to_eight_bits(mask)
    values: NDArray[Any] = np.atleast_3d(np.asarray(mask)).max(axis=2)
    return values


def _is_grey(mask: Image.Image) -> bool:
    """Whether all colours of a palette that occur are different greys, and so are values."""
    colours = np.unique(np.asarray(mask.convert("RGB")).reshape(-1, 3), axis=0)
    different = len(colours) == len(np.unique(np.asarray(mask)))
    return different and bool((colours == colours[:, :1]).all())


def _marked(values: NDArray[Any], *, lossy: bool) -> Marks | None:
    """Returns which values mark their pixels; None if that is unknown."""
    levels = np.unique(values)
    lowest, highest = float(levels[0]), float(levels[-1])
    between = (values > highest * NEAR) & (values < highest * (1 - NEAR))
    if not lossy:
        if len(levels) == 2 and lowest < highest * (1 - NEAR):
            return values > lowest
        # Noise is near the highest value too; a number is near 0 if 255 is what does not count.
        noisy = levels[-2:-1] > highest * (1 - NEAR)
        others = between if noisy.any() else (values > 0) & (values < highest)
        numbered = len(levels) <= MOST_LEVELS and (others & _flat(values)).any()
        if numbered or highest <= MOST_LEVELS:
            return values > 0
    elif 0 < highest <= MOST_LEVELS:
        return None
    if between.mean() > MOST_BETWEEN or not np.isfinite(highest):
        return None
    return values > highest / 2


def _flat(values: NDArray[Any]) -> Marks:
    """Returns which pixels have the value of all pixels around them, unlike those of edges."""
    same: Marks = maximum_filter(values, 3) == minimum_filter(values, 3)
    return same
