"""What twins start from: photographs, or tiles anywhere in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sia_gen.config.data import Foreground
from sia_gen.corpus.schema import LARGEST_PHOTOGRAPH
from sia_gen.errors import ImageError
from sia_gen.images.by_number import Images, Tiles, areas_of
from sia_gen.images.loading import ImageSpec, Pixels, pixel_aspect_ratio
from sia_gen.images.squares import Area
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.io.files import worker_threads

# Tiles are drawn anew so often if they do not show the object.
DRAWS = 16


class Start(NamedTuple):
    """What some twins start from, (B, C, H, W), 0 to 255, and the foreground of each.

    A foreground is (1, H, W), 1 or 0; there are none if they are unknown. Areas are where the
    pictures are in padded images; there are none if nothing is padded. Pixel aspect ratios are 1
    unless photographs were stretched.
    """

    pixels: Pixels
    foregrounds: list[Pixels]
    areas: list[Area]
    pixel_aspect_ratios: list[float]


class Place(NamedTuple):
    """Where a tile is: number of the photograph, top and left."""

    number: int
    top: int
    left: int


@dataclass(frozen=True)
class StartImages:
    """The photographs that samples of a category start from, and their foregrounds if known."""

    images: Images
    foregrounds: Images | None
    pixel_aspect_ratios: Sequence[float]

    def of(self, indices: Sequence[int]) -> Start:
        """Returns the photographs of some samples in turn."""
        found, areas = self.foregrounds, areas_of(self.images)
        numbers = [index % len(self.images) for index in indices]
        return Start(
            np.stack([self.images[number] for number in numbers]),
            [] if found is None else [found[number] for number in numbers],
            [] if areas is None else [areas[number] for number in numbers],
            [self.pixel_aspect_ratios[number] for number in numbers],
        )


@dataclass(frozen=True)
class StartTiles(StartImages):
    """Photographs of which samples start from tiles, on a grid or anywhere."""

    images: Tiles
    foregrounds: Tiles | None

    def at(self, places: Sequence[Place]) -> Start:
        """Returns tiles of photographs."""
        found = self.foregrounds
        pixels = np.stack([self.images.at(*place) for place in places])
        foregrounds = [] if found is None else [found.at(*place) for place in places]
        return Start(pixels, foregrounds, areas=[], pixel_aspect_ratios=[1.0] * len(places))

    def draw_places(self, index: int, seed: int, most: int) -> list[Place]:
        """Draws one to `most` tiles of the photograph of a sample, which show the object if any do.

        Raises:
            ImageError: If it is too large for a sample.
        """
        number = index % len(self.images.photographs)
        height, width = self.images.shape_of(number)
        if height * width > LARGEST_PHOTOGRAPH:
            raise ImageError(
                problem=f"a photograph of {width} x {height} pixels is too large for a sample.",
                fix="Reduce it with --scale, or leave --tiles out, so that samples are tiles.",
            )
        # Its numbers differ from those of the sample's noise, but follow from the same seed.
        rng = np.random.default_rng((seed, 3))
        return [self._draw(number, (height, width), rng) for _ in range(rng.integers(most) + 1)]

    def _draw(self, number: int, shape: tuple[int, int], rng: np.random.Generator) -> Place:
        side = self.images.tile.size
        for _ in range(DRAWS):
            top, left = (int(rng.integers(length - side + 1)) for length in shape)
            place = Place(number, top, left)
            if self.foregrounds is None or self.foregrounds.at(*place).any():
                break
        return place


def open_starts(paths: Sequence[Path], spec: ImageSpec, rule: Foreground | None) -> StartImages:
    """Opens the photographs of a category, and the foregrounds that a rule finds in them."""
    (images,) = open_images([paths], spec, [rule])
    foregrounds: Any = open_foregrounds(images, rule)
    if isinstance(images, Tiles):
        return StartTiles(images, foregrounds, [1.0] * len(images))
    with worker_threads() as pool:
        ratios = list(pool.map(partial(pixel_aspect_ratio, spec=spec), paths))
    return StartImages(images, foregrounds, ratios)
