"""Images by number: in memory, or made whenever they are needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.config.data import Tile
from sia_gen.images.grid import Grid, fading
from sia_gen.images.loading import Pixels, to_picture, to_pixels
from sia_gen.images.squares import Area

# A change fades out over a quarter of its tile, or an eighth where a quarter would erase it.
SHARES = (4, 8)


class Images(Protocol):
    """Images by number, each (C, H, W), 0 to 255; an array (N, C, H, W) is one."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, index: int, /) -> Pixels:
        """Returns one image."""


@dataclass(frozen=True)
class Streamed:
    """Images that are made from their items, such as paths, whenever they are needed."""

    items: Sequence[Any] | Images
    read: Callable[[Any], Pixels]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Pixels:
        return self.read(self.items[index])


class Latest:
    """Images of which the latest stays in memory, because its parts are asked for in turn."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.latest: tuple[int, Pixels] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pixels:
        latest = self.latest
        if latest is None or latest[0] != index:
            self.latest = latest = index, self.images[index]
        return latest[1]


@dataclass(frozen=True)
class Padded:
    """Images of which not all pixels count.

    Attributes:
        images: The images, (C, size, size).
        areas: Where the picture is in each; the rest is padding.
        counted: Which pixels of each count, (1, size, size), 1 or 0; None if all of the areas do.
    """

    images: Images
    areas: Sequence[Area]
    counted: Images | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pixels:
        return self.images[index]


@dataclass(frozen=True)
class Tiles:
    """The tiles of photographs, (C, size, size), on grids without overlap.

    Attributes:
        photographs: The photographs, (C, H, W), each of its own height and width.
        places: Number of the photograph, top and left of each tile, (N, 3).
        tile: How photographs are cut.
        size: Height and width that a model takes.
        resampling: Filter to resize tiles with.
        counted: Which pixels of each photograph count, (1, H, W), 1 or 0; None if all do.
    """

    photographs: Images
    places: NDArray[np.int64]
    tile: Tile
    size: int
    resampling: Image.Resampling = Image.Resampling.BICUBIC
    counted: Images | None = None

    @classmethod
    def of(
        cls,
        photographs: Images,
        shapes: Sequence[tuple[int, int]],
        tile: Tile,
        size: int,
        counted: Images | None = None,
    ) -> Self:
        """Returns the tiles of photographs of these heights and widths."""
        places = [
            (number, top, left)
            for number, shape in enumerate(shapes)
            for top, left in Grid.of(shape, tile, overlap=0).places
        ]
        return cls(photographs, np.array(places, np.int64), tile, size, counted=counted)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Pixels:
        return self.at(*self.places[index].tolist())

    def at(self, number: int, top: int, left: int) -> Pixels:
        """Returns the tile at a place of a photograph, by its number."""
        return self.cut(self.photographs[number], top, left)

    def shape_of(self, number: int) -> tuple[int, int]:
        """Returns height and width of a photograph."""
        places = self.places[self.places[:, 0] == number]
        return int(places[:, 1].max()) + self.tile.size, int(places[:, 2].max()) + self.tile.size

    def drawn(self, index: int, rng: np.random.Generator) -> Pixels:
        """Returns a tile from anywhere in the photograph of a tile."""
        photograph = self.photographs[int(self.places[index, 0])]
        height, width = photograph.shape[-2:]
        top, left = (int(rng.integers(one - self.tile.size + 1)) for one in (height, width))
        return self.cut(photograph, top, left)

    def cut(self, photograph: Pixels, top: int, left: int) -> Pixels:
        """Returns the tile at a place of a photograph, in the size that a model takes."""
        side = self.tile.size
        return resized(
            photograph[:, top : top + side, left : left + side], self.size, self.resampling
        )

    def changed(
        self, index: int, before: Pixels, after: Pixels, mask: Pixels
    ) -> tuple[Pixels, Pixels, Pixels]:
        """Puts the change of a tile into its photograph, without a seam.

        Args:
            index: Number of the tile.
            before: The tile as it was, (C, size, size).
            after: The tile as it is now.
            mask: Where it changed, (1, size, size), 0 or 255.

        Returns:
            The photograph, changed, (C, H, W); where, (1, H, W); and as it was. The change fades
            out before the edges of the tile that are not edges of the photograph.
        """
        number, top, left = self.places[index].tolist()
        photograph = self.photographs[number]
        return *self.put_back(photograph, top, left, before, after, mask), photograph

    def put_back(
        self, photograph: Pixels, top: int, left: int, before: Pixels, after: Pixels, mask: Pixels
    ) -> tuple[Pixels, Pixels]:
        """Returns a photograph with the change of the tile at a place, and where; see `changed`."""
        side = self.tile.size
        marks = resized_values(mask.astype(np.float32), side)
        # A mark that is too small for the photograph's pixels still marks one.
        marked = marks > min(127, marks.max() / 2)
        for share in SHARES:
            rows, columns = (
                fading(side, start, length, side // share)
                for start, length in zip((top, left), photograph.shape[-2:], strict=True)
            )
            weight = rows[:, None] * columns
            # What lies at the edge alone would be lost.
            if (marked & (weight > 0.5)).any() or not marked.any():
                break
        else:
            weight = np.ones_like(weight)
        change = resized_values(after.astype(np.float32) - before, side)
        here = (slice(None), slice(top, top + side), slice(left, left + side))
        found, where = photograph.copy(), np.zeros_like(photograph[:1])
        found[here] = (photograph[here] + weight * change).round().clip(0, 255).astype(np.uint8)
        where[here] = (marked & (weight > 0.5)) * np.uint8(255)
        return found, where

    def pasted(self, photograph: Pixels, tile: Pixels, top: int, left: int) -> Pixels:
        """Returns a photograph with a tile, in the size that a model takes, put in its place."""
        side, changed = self.tile.size, photograph.copy()
        changed[:, top : top + side, left : left + side] = resized(tile, side)
        return changed


def resized(
    tile: Pixels, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> Pixels:
    """Returns a tile (C, H, W) in another height and width."""
    if tile.shape[-1] == size:
        # The photograph keeps its pixels whatever becomes of the tile.
        return tile.copy()
    return np.array(to_pixels(to_picture(tile).resize((size, size), resampling)), order="C")


def resized_values(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Returns values (C, H, W) of any sign in another height and width."""
    if values.shape[-1] == side:
        return values
    planes = [
        Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR) for one in values
    ]
    return np.stack([np.asarray(plane) for plane in planes])


def drawn(images: Images, index: int, rng: np.random.Generator) -> Pixels:
    """Returns an image to learn from; of tiles one from anywhere in the same photograph."""
    return images.drawn(index, rng) if isinstance(images, Tiles) else images[index]


def areas_of(images: Images) -> Sequence[Area] | None:
    """Returns where the picture is in each image; None if it is everywhere."""
    return images.areas if isinstance(images, Padded) else None


def numbers_of(images: Images) -> NDArray[np.int64]:
    """Returns the number of the photograph that shows each image, (N,)."""
    return images.places[:, 0] if isinstance(images, Tiles) else np.arange(len(images))
