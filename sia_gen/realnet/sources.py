"""Where anomalies come from: pieces of SDAS samples or textures, and twins with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK, TWINS
from sia_gen.errors import CorpusError, ImageError, OptionError
from sia_gen.images.layouts import is_image
from sia_gen.images.loading import load_image, to_pixels, to_square
from sia_gen.locations import Location
from sia_gen.realnet.augmentation import augment
from sia_gen.recipe import Recipe

Pixels = NDArray[np.uint8]
Opacity = tuple[float, float]
Mode = Literal["L", "RGB"]


class Piece(NamedTuple):
    """An image to paste from, (C, H, W), 0 to 255, and how opaque its pieces may be."""

    pixels: Pixels
    opacity: Opacity


class Twin(NamedTuple):
    """An anomalous image, its normal twin, both (C, H, W), and the mask (1, H, W); 0 to 255."""

    anomalous: Pixels
    normal: Pixels
    mask: Pixels


class Source(Protocol):
    """Gives the image for the anomaly of any sample of the training."""

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """The image for sample `number`, counted from the start of the training."""


@dataclass(frozen=True)
class SDASSource:
    """The samples of a corpus, one after another: they are independent of each other."""

    reader: SampleReader
    mode: Mode
    size: int
    opacity: Opacity

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """Sample `number` of the corpus; after the last comes the first again."""
        return self.read(number)[1]

    def read(self, number: int) -> tuple[dict[str, Any], Piece]:
        """The same, with its metadata."""
        metadata, image = self.reader[number]
        square = to_square(image.convert(self.mode), Path(metadata["key"]), self.size, None)
        return metadata, Piece(to_pixels(square), self.opacity)


@dataclass(frozen=True)
class TwinSource:
    """The twins of a corpus, one after another, but for those whose masks are of no use."""

    reader: SampleReader
    mode: Mode
    size: int
    area: tuple[float, float]

    def draw(self, number: int) -> Twin:
        """Twin `number` of the corpus, or the next one with a mask of the right area.

        Raises:
            CorpusError: If there is none.
        """
        for place in range(number, number + self.reader.total):
            _, twin = self.read(place)
            if twin is not None:
                return twin
        low, high = self.area
        raise CorpusError(
            problem=f"no mask of {self.reader.corpus} covers {low:.2%} to {high:.0%} of its image.",
            fix="Make twins of another strength or region, or change the recipe's "
            "'realnet.mask_area'.",
        )

    def read(self, number: int) -> tuple[dict[str, Any], Twin | None]:
        """The metadata of twin `number`, and the twin unless its mask is of no use."""
        metadata, images = self.reader.read(number)
        useful = self.area[0] <= metadata["mask_area"] <= self.area[1]
        return metadata, self.resized(images) if useful else None

    def resized(self, images: dict[str, Image.Image]) -> Twin:
        """The images of a twin in the size to train on."""
        side, form = (self.size, self.size), self.reader.form.format
        anomalous, normal = (
            to_pixels(
                images[f"{name}.{form}"].convert(self.mode).resize(side, Image.Resampling.BICUBIC)
            )
            for name in ("image", "normal")
        )
        mask = to_pixels(images[MASK].resize(side, Image.Resampling.BILINEAR))
        return Twin(anomalous, normal, np.where(mask > 127, 255, 0).astype(np.uint8))


@dataclass(frozen=True)
class TextureSource:
    """Images of textures, augmented (paper, section 4: DTD as the alternative source)."""

    paths: list[Path]
    mode: Mode
    size: int
    opacity: Opacity

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """A texture at random, changed in three random ways."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        # Textures have no right shape: stretching them does no harm.
        pixels = load_image(path, self.mode, self.size, "stretch")
        return Piece(augment(pixels, rng), self.opacity)


@dataclass(frozen=True)
class MixedSource:
    """Several sources in equal parts."""

    sources: Sequence[Source]

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """An image of one of the sources, at random."""
        return self.sources[int(rng.integers(len(self.sources)))].draw(number, rng)


def make_source(recipe: Recipe, category: str, corpus: Location) -> Source:
    """The source a recipe asks for.

    Raises:
        UserError: If the corpus or the textures are not there.
    """
    settings, sources = recipe.realnet, list[Source]()
    size = settings.image_size
    if settings.source != "dtd":
        reader = SampleReader(corpus, recipe.dataset, category)
        sources.append(SDASSource(reader, recipe.mode, size, settings.opacity))
    if settings.source != "sdas":
        paths = texture_files(settings.textures)
        sources.append(TextureSource(paths, recipe.mode, size, settings.texture_opacity))
    return sources[0] if len(sources) == 1 else MixedSource(sources)


def make_twin_source(recipe: Recipe, category: str, corpus: Location) -> TwinSource:
    """The twins of a corpus.

    Raises:
        CorpusError: If the corpus is not there, or has none with a mask of the right area.
    """
    reader, settings = SampleReader(corpus, recipe.dataset, category), recipe.realnet
    if reader.form.kind != TWINS:
        raise CorpusError(
            problem=f"{corpus} holds {reader.form.kind}, not twins with masks.",
            fix="Make them with 'sia-gen synthesize --twins', or leave --anomalies out.",
        )
    source = TwinSource(reader, recipe.mode, settings.image_size, settings.mask_area)
    source.draw(0)
    return source


def texture_files(folder: str | None) -> list[Path]:
    """The images anywhere below a folder, sorted.

    Raises:
        OptionError: If no folder is named.
        ImageError: If it has no images.
    """
    if folder is None:
        raise OptionError(
            problem="textures are to be pasted, but nobody says where they are.",
            fix="Give a folder of images with --textures, e.g. that of DTD.",
        )
    paths = sorted(path for path in Path(folder).rglob("*") if is_image(path))
    if not paths:
        raise ImageError(
            problem=f"there are no images of textures in {folder}.", fix="Check --textures."
        )
    return paths
