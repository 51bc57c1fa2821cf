"""Where anomalies come from: pieces of SDAS samples or textures, and twins with their masks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.anomalies.augmentation import augment
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK, TWINS
from sia_gen.errors import CorpusError, ImageError, OptionError, UserError
from sia_gen.images.layouts import is_image
from sia_gen.images.loading import ImageSpec, load_image, to_pixels, to_square
from sia_gen.io.locations import Location

Pixels = NDArray[np.uint8]
Opacity = tuple[float, float]
Item = TypeVar("Item")
Kind = TypeVar("Kind")


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
    """The samples of a corpus, one after another: they are independent of each other.

    Attributes:
        reader: Reads them.
        spec: Mode and size of the pieces.
        opacity: Range of delta.
        numbers: Of the samples to give.
    """

    reader: SampleReader
    spec: ImageSpec
    opacity: Opacity
    numbers: Sequence[int]

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """The next sample; after the last comes the first again."""
        return self.read(self.numbers[number % len(self.numbers)])[1]

    def read(self, number: int) -> tuple[dict[str, Any], Piece]:
        """Sample `number` of the corpus, with its metadata."""
        metadata, image = self.reader[number]
        square = to_square(image.convert(self.spec.mode), Path(metadata["key"]), self.spec)
        return metadata, Piece(to_pixels(square), self.opacity)


@dataclass(frozen=True)
class TwinSource:
    """The twins of a corpus whose masks are useful, one after another.

    Attributes:
        reader: Reads them.
        spec: Mode and size of the images.
        numbers: Of the twins to give.
    """

    reader: SampleReader
    spec: ImageSpec
    numbers: Sequence[int]

    def draw(self, number: int) -> Twin:
        """The next twin; after the last comes the first again."""
        return self.read(self.numbers[number % len(self.numbers)])[1]

    def read(self, number: int) -> tuple[dict[str, Any], Twin]:
        """Twin `number` of the corpus, with its metadata."""
        metadata, images = self.reader.read(number)
        return metadata, self.resized(images)

    def resized(self, images: dict[str, Image.Image]) -> Twin:
        """The images of a twin in the size to train on."""
        side, form = (self.spec.size, self.spec.size), self.reader.form.format
        anomalous, normal = (
            to_pixels(
                images[f"{name}.{form}"]
                .convert(self.spec.mode)
                .resize(side, Image.Resampling.BICUBIC)
            )
            for name in ("image", "normal")
        )
        mask = to_pixels(images[MASK].resize(side, Image.Resampling.BILINEAR))
        return Twin(anomalous, normal, np.where(mask > 127, 255, 0).astype(np.uint8))


@dataclass(frozen=True)
class TextureSource:
    """Images of textures, augmented (paper, section 4: DTD as the alternative source)."""

    paths: Sequence[Path]
    spec: ImageSpec
    opacity: Opacity

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """A texture at random, changed in three random ways."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        return Piece(augment(load_image(path, self.spec), rng), self.opacity)


@dataclass(frozen=True)
class MixedSource:
    """Several sources in equal parts."""

    sources: Sequence[Source]

    def draw(self, number: int, rng: np.random.Generator) -> Piece:
        """An image of one of the sources, at random."""
        return self.sources[int(rng.integers(len(self.sources)))].draw(number, rng)


class Parts(NamedTuple, Generic[Kind]):
    """What a model learns from, and what it never sees but in validation."""

    fit: Kind
    validation: Kind


def kept_apart(every: Sequence[Item], recipe: Recipe, problem: UserError) -> Parts[Sequence[Item]]:
    """Keeps a share of some items, the last of them, for validation.

    None is kept where the test images choose instead.

    Raises:
        UserError: The `problem`, if there is nothing left to learn from.
    """
    if recipe.realnet.select_on == "test":
        return Parts(every, every[:0])
    if len(every) < 2:
        raise problem
    kept = min(len(every) - 1, max(1, round(recipe.data.validation_fraction * len(every))))
    return Parts(every[:-kept], every[-kept:])


class Sources(NamedTuple):
    """Where the anomalies of a category come from.

    Attributes:
        reader: Of the corpus, if it is read.
        pieces: Gives images to paste from, if the recipe asks for any.
        twins: Gives twins, likewise.
    """

    reader: SampleReader | None
    pieces: Parts[Source] | None
    twins: Parts[TwinSource] | None


def open_sources(recipe: Recipe, category: str, corpus: Location) -> Sources:
    """Where the anomalies of a category come from, as far as the recipe asks for them.

    Raises:
        UserError: If the corpus or the textures are not there, or too few.
    """
    settings, parts = recipe.realnet, list[Parts[Source]]()
    pasted, twinned = settings.anomalies != "twins", settings.anomalies != "perlin"
    reader, twins = None, None
    if twinned or settings.source != "dtd":
        reader = SampleReader(corpus, recipe.dataset, category)
        useful = useful_twins(recipe, reader) if twinned else None
        numbers = range(reader.total) if useful is None else useful.numbers
        # One cut for pieces and twins: what one validates on, the other does not learn from.
        validation = kept_apart(numbers, recipe, too_few(reader)).validation
        cut = validation[0] if validation else reader.total
        if useful is not None:
            twins = Parts(*(replace(useful, numbers=some) for some in split(numbers, cut)))
        if pasted and settings.source != "dtd":
            parts.append(sample_sources(recipe, reader, cut))
    if pasted and settings.source != "sdas":
        parts.append(texture_sources(recipe))
    pieces: Parts[Source] | None = parts[0] if parts else None
    if len(parts) > 1:
        pieces = Parts(*map(MixedSource, zip(*parts, strict=True)))
    return Sources(reader, pieces, twins)


def too_few(reader: SampleReader) -> CorpusError:
    """The error of a corpus of which nothing can be kept for validation."""
    return CorpusError(
        problem=f"{reader} has a single sample to use, and it takes two: one to learn from and one "
        "to validate on.",
        fix="Make more with 'sia-gen synthesize'; of twins, those count whose masks cover what the "
        "recipe's 'realnet.mask_area' says.",
    )


def split(numbers: Sequence[int], cut: int) -> Parts[Sequence[int]]:
    """Ascending numbers, those below a cut and the others."""
    place = bisect_left(numbers, cut)
    return Parts(numbers[:place], numbers[place:])


def sample_sources(recipe: Recipe, reader: SampleReader, cut: int) -> Parts[Source]:
    """The samples of a corpus, of which those from `cut` on are for validation."""
    spec, opacity = ImageSpec.of(recipe, recipe.realnet.image_size), recipe.realnet.opacity
    numbers = split(range(reader.total), cut)
    return Parts(*(SDASSource(reader, spec, opacity, some) for some in numbers))


def texture_sources(recipe: Recipe) -> Parts[Source]:
    """The textures that a recipe names."""
    settings = recipe.realnet
    few = ImageError(
        problem=f"there is a single image of textures in {settings.textures}.",
        fix="Give two or more with --textures: some to learn from, others to validate on.",
    )
    paths = kept_apart(texture_files(settings.textures), recipe, few)
    # Textures have no right shape: stretching them does no harm.
    spec = ImageSpec(recipe.mode, settings.image_size, "stretch")
    return Parts(*(TextureSource(some, spec, settings.texture_opacity) for some in paths))


def useful_twins(recipe: Recipe, reader: SampleReader) -> TwinSource:
    """The twins of a corpus whose masks cover as much as the recipe's `realnet.mask_area` says.

    Raises:
        CorpusError: If it has none.
    """
    low, high = recipe.realnet.mask_area
    if reader.form.kind != TWINS:
        raise CorpusError(
            problem=f"{reader.corpus} holds {reader.form.kind}, not twins with masks.",
            fix="Make them with 'sia-gen synthesize --twins', or leave --anomalies out.",
        )
    useful = np.flatnonzero((reader.mask_areas >= low) & (reader.mask_areas <= high)).tolist()
    if not useful:
        raise CorpusError(
            problem=f"no mask of {reader} covers {low:.2%} to {high:.0%} of its image.",
            fix="Make twins of another strength or region, or change the recipe's "
            "'realnet.mask_area'.",
        )
    return TwinSource(reader, ImageSpec.of(recipe, recipe.realnet.image_size), useful)


def texture_files(folder: str | None) -> list[Path]:
    """The images anywhere below a folder, sorted.

    Raises:
        OptionError: If no folder is named.
        ImageError: If it has no images.
    """
    if folder is None:
        raise OptionError(
            problem="no texture folder was given.",
            fix="Give a folder of images with --textures, e.g. that of DTD.",
        )
    paths = sorted(path for path in Path(folder).rglob("*") if is_image(path))
    if not paths:
        raise ImageError(
            problem=f"there are no images of textures in {folder}.", fix="Check --textures."
        )
    return paths
