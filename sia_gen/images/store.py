"""Images of a category for training: in memory if they fit, else read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sia_gen.data_settings import Foreground
from sia_gen.images.foreground import foreground_mask, foreground_masks
from sia_gen.images.loading import NonSquare, load_image, load_images

Pixels = NDArray[np.uint8]
# Of one process; beyond it images are decoded again in every epoch.
MEMORY = 2 << 30


class Images(Protocol):
    """Images by their number, each (C, H, W), 0 to 255; an array (N, C, H, W) is one."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Pixels:
        """One of them."""


class StreamedImages:
    """Images that are read from their files whenever they are asked for."""

    def __init__(
        self, paths: Sequence[Path], mode: Literal["L", "RGB"], size: int, non_square: NonSquare
    ) -> None:
        self.paths = list(paths)
        self.mode: Literal["L", "RGB"] = mode
        self.size = size
        self.non_square = non_square

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        """An image, (C, size, size), 0 to 255; `ImageError` if it cannot be read."""
        return load_image(self.paths[index], self.mode, self.size, self.non_square)


class JoinedImages:
    """The images of several categories, one after another."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Pixels:
        """An image of the part that its number falls into."""
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part][index - int(self.starts[part])]


class StreamedForegrounds:
    """The foreground of each image, (1, H, W), found whenever it is asked for."""

    def __init__(self, images: Images, rule: Foreground) -> None:
        self.images = images
        self.rule = rule

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pixels:
        """The foreground of an image, 1 on the object."""
        return foreground_mask(self.images[index], self.rule)


def open_images(
    paths: Sequence[Path], mode: Literal["L", "RGB"], size: int, non_square: NonSquare
) -> Images:
    """The images in some files, in memory if they take at most `MEMORY` bytes.

    Raises:
        ImageError: If one of those in memory cannot be read; of others, when it is asked for.
    """
    if len(paths) * len(mode) * size * size > MEMORY:
        return StreamedImages(paths, mode, size, non_square)
    return load_images(list(paths), mode, size, non_square)


def open_foregrounds(images: Images, rule: Foreground | None) -> Images | None:
    """The foregrounds of images, in memory if these are; None if all of every image is."""
    if isinstance(images, np.ndarray):
        return foreground_masks(images, rule)
    if rule is None or rule.method == "none":
        return None
    return StreamedForegrounds(images, rule)
