"""The images that a model learns from: in memory if they fit, else read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sia_gen.config.data import Foreground
from sia_gen.images.foreground import finds_objects, foreground_mask, foreground_masks
from sia_gen.images.loading import ImageSpec, load_image, load_images

Pixels = NDArray[np.uint8]
# Bytes for all images of a model, in each process; beyond it they are decoded in every epoch.
MEMORY = 2 << 30


class Images(Protocol):
    """Images by their number, each (C, H, W), 0 to 255; an array (N, C, H, W) is one."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Pixels:
        """One of them."""


class StreamedImages:
    """Images that are read from their files whenever they are asked for."""

    def __init__(self, paths: Sequence[Path], spec: ImageSpec) -> None:
        self.paths = list(paths)
        self.spec = spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        """An image, (C, size, size), 0 to 255; `ImageError` if it cannot be read."""
        return load_image(self.paths[index], self.spec)


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
    groups: Sequence[Sequence[Path]],
    spec: ImageSpec,
    rules: Sequence[Foreground | None] | None = None,
) -> list[Images]:
    """All images of a model, in memory if they take at most `MEMORY` bytes together.

    Args:
        groups: Their files, by what they are for.
        spec: Mode and size of the images.
        rules: How the foreground is found in each group, for which there has to be room as well.

    Returns:
        Those of each group.

    Raises:
        ImageError: If one of those in memory cannot be read; of others, when it is asked for.
    """
    layers = [len(spec.mode) + finds_objects(rule) for rule in rules or [None] * len(groups)]
    planes = sum(len(paths) * count for paths, count in zip(groups, layers, strict=True))
    opened = StreamedImages if planes * spec.size**2 > MEMORY else load_images
    return [opened(paths, spec) for paths in groups]


def open_foregrounds(images: Images, rule: Foreground | None) -> Images | None:
    """The foregrounds of images, in memory if these are; None if all of every image is."""
    if not finds_objects(rule):
        return None
    if isinstance(images, np.ndarray):
        return foreground_masks(images, rule)
    return StreamedForegrounds(images, rule)
