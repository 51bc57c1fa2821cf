"""Sources of anomalies: pieces of SDAS samples or textures, and twins with their masks.

A texture is augmented by three of ten random changes, as in DRAEM and RealNet.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.cutting import tile_of
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK, TWINS
from sia_gen.errors import CorpusError, ImageError, OptionError, UserError
from sia_gen.images.by_number import Images, areas_of
from sia_gen.images.files import images_below
from sia_gen.images.loading import ImageSpec, Pixels, load_image, to_picture, to_pixels
from sia_gen.images.squares import Area, to_square
from sia_gen.io.files import Location
from sia_gen.runtime.progress import in_percent

# Random changes of a texture.
CHANGES_AT_A_TIME = 3
# Mean difference in levels of 255 between a photograph and itself, reduced in another way.
SAME_PHOTOGRAPH = 4
BILINEAR = Image.Resampling.BILINEAR

Rng = np.random.Generator
Change = Callable[[Image.Image, Rng], Image.Image]
Opacity = tuple[float, float]
Item = TypeVar("Item")
Kind = TypeVar("Kind")


class Piece(NamedTuple):
    """An image to paste from, (C, H, W), 0 to 255, and the range of its opacity."""

    pixels: Pixels
    opacity: Opacity


class Twin(NamedTuple):
    """An anomalous image, its normal twin, both (C, H, W), and the mask (1, H, W); 0 to 255."""

    anomalous: Pixels
    normal: Pixels
    mask: Pixels


class Source(Protocol):
    """A source of images to paste from."""

    def draw(self, number: int, rng: Rng) -> Piece:
        """Returns the image for sample `number`, counted from the start of the training."""


@dataclass(frozen=True)
class SDASSource:
    """The samples of a corpus with these numbers, in their order, with a range of opacity."""

    reader: SampleReader
    spec: ImageSpec
    opacity: Opacity
    numbers: Sequence[int]

    def draw(self, number: int, rng: Rng) -> Piece:
        """Returns the next sample; the first follows the last."""
        return self.read(self.numbers[number % len(self.numbers)])[1]

    def read(self, number: int) -> tuple[dict[str, Any], Piece]:
        """Returns sample `number` of the corpus with its metadata."""
        metadata, images = tile_of(self.reader.read(number), self.reader.form)
        square = to_square(
            images[self.reader.form.picture].convert(self.spec.mode),
            Path(metadata["key"]),
            self.spec.size,
            self.spec.non_square,
        )
        return metadata, Piece(to_pixels(square), self.opacity)


@dataclass(frozen=True)
class TwinSource:
    """The twins of a corpus with these numbers, in their order.

    The photographs, (C, H, W) in the size to train on, are those that twins may have started from.
    Enlarged twins are blurred, and a detector would learn that anomalies are. If a normal twin is a
    photograph, the difference between the twins is therefore added to that photograph.
    """

    reader: SampleReader
    spec: ImageSpec
    numbers: Sequence[int]
    photographs: Images | None = None

    def draw(self, number: int) -> Twin:
        """Returns the next twin; the first follows the last."""
        turn, place = divmod(number, len(self.numbers))
        return self.read(self.numbers[place], turn)[1]

    def read(self, number: int, turn: int = 0) -> tuple[dict[str, Any], Twin]:
        """Returns twin `number` of the corpus, in the size to train on, with its metadata.

        Of a whole photograph it is a tile that shows some of the anomaly, another in each turn.
        """
        metadata, images = tile_of(self.reader.read(number), self.reader.form, turn)
        size, form = (self.spec.size, self.spec.size), self.reader.form.format

        def resized(name: str) -> Pixels:
            image = images[f"{name}.{form}"].convert(self.spec.mode)
            return to_pixels(image.resize(size, Image.Resampling.BICUBIC))

        mask = to_pixels(images[MASK].resize(size, BILINEAR))
        binary = np.where(mask > 127, 255, 0).astype(np.uint8)
        twin = Twin(resized("image"), resized("normal"), binary)
        if self.photographs is None or self.reader.form.tile is not None:
            return metadata, twin
        number = metadata["index"] % len(self.photographs)
        areas = areas_of(self.photographs)
        area = Area.whole(self.spec.size) if areas is None else areas[number]
        return metadata, self._moved_to(self.photographs[number], area, twin)

    def _moved_to(self, photograph: Pixels, area: Area, twin: Twin) -> Twin:
        """Moves the anomaly of a twin to a photograph, within an area, if it started from it."""
        small = (self.reader.form.image_size,) * 2
        reduced, normal = (
            np.asarray(to_picture(one).resize(small, Image.Resampling.BOX), np.float32)
            for one in (photograph, twin.normal)
        )
        if np.abs(reduced - normal).mean() > SAME_PHOTOGRAPH:
            return twin
        difference = twin.anomalous.astype(np.int16) - twin.normal
        anomalous = (photograph + difference).clip(0, 255).astype(np.uint8)
        inside = area.only(np.ones_like(photograph)) > 0
        return Twin(np.where(inside, anomalous, photograph), photograph, area.only(twin.mask))


@dataclass(frozen=True)
class TextureSource:
    """Augmented images of textures (paper section 4: DTD as the alternative source)."""

    paths: Sequence[Path]
    spec: ImageSpec
    opacity: Opacity

    def draw(self, number: int, rng: Rng) -> Piece:
        """Returns a random texture with three random changes."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        return Piece(augment(load_image(path, self.spec), rng), self.opacity)


@dataclass(frozen=True)
class PhotographSource:
    """Augmented and displaced photographs of normal parts, (C, H, W)."""

    photographs: Images
    opacity: Opacity

    def draw(self, number: int, rng: Rng) -> Piece:
        """Returns a random photograph with three random changes, rolled by a random distance."""
        pixels = self.photographs[int(rng.integers(len(self.photographs)))]
        rows, columns = (int(rng.integers(side)) for side in pixels.shape[1:])
        return Piece(augment(np.roll(pixels, (rows, columns), axis=(1, 2)), rng), self.opacity)


@dataclass(frozen=True)
class MixedSource:
    """Several sources in equal parts."""

    sources: Sequence[Source]

    def draw(self, number: int, rng: Rng) -> Piece:
        """Returns an image of a random source."""
        return self.sources[int(rng.integers(len(self.sources)))].draw(number, rng)


class Parts(NamedTuple, Generic[Kind]):
    """The part that a model learns from, and the part that only its validation sees."""

    fit: Kind
    validation: Kind


class Sources(NamedTuple):
    """The sources of a category, and the reader of its corpus; None if a recipe needs none."""

    reader: SampleReader | None
    pieces: Parts[Source] | None
    twins: Parts[TwinSource] | None


def open_sources(recipe: Recipe, category: str, corpus: Location) -> Sources:
    """Opens the sources that a recipe asks for; `UserError` if they are missing or too few."""
    settings, parts = recipe.realnet, list[Parts[Source]]()
    pasted, twinned = settings.anomalies != "twins", settings.anomalies != "perlin"
    reader, twins = None, None
    if twinned or settings.source != "dtd":
        reader = SampleReader(corpus, recipe.dataset, category)
        useful = useful_twins(recipe, reader) if twinned else None
        numbers = range(reader.total) if useful is None else useful.numbers
        # Pieces and twins share one cut, so that neither learns from what the other validates on.
        few = CorpusError(
            problem=f"{reader} has a single usable sample, but two are needed: one to learn from "
            "and one to validate on.",
            fix="Make more with 'sia-gen synthesize'; twins count only if their masks cover the "
            "share of the image that the recipe's 'realnet.mask_area' allows.",
        )
        validation = kept_apart(numbers, recipe, few).validation
        cut = validation[0] if validation else reader.total
        if useful is not None:
            twins = Parts(*(replace(useful, numbers=some) for some in _split(useful.numbers, cut)))
        if pasted and settings.source != "dtd":
            spec = ImageSpec.of(recipe, settings.image_size)
            samples = _split(range(reader.total), cut)
            parts.append(
                Parts(*(SDASSource(reader, spec, settings.opacity, some) for some in samples))
            )
    if pasted and settings.source != "sdas":
        parts.append(_texture_sources(recipe))
    pieces: Parts[Source] | None = parts[0] if parts else None
    if len(parts) > 1:
        pieces = Parts(*map(MixedSource, zip(*parts, strict=True)))
    return Sources(reader, pieces, twins)


def kept_apart(every: Sequence[Item], recipe: Recipe, problem: UserError) -> Parts[Sequence[Item]]:
    """Keeps the last items for validation, or none if the test images select the weights.

    Raises the `problem` if no item would be left to learn from.
    """
    if recipe.realnet.select_on == "test":
        return Parts(every, every[:0])
    if len(every) < 2:
        raise problem
    kept = min(len(every) - 1, max(1, round(recipe.data.validation_fraction * len(every))))
    return Parts(every[:-kept], every[-kept:])


def _split(numbers: Sequence[int], cut: int) -> Parts[Sequence[int]]:
    """Splits ascending numbers into those below the cut and the others."""
    place = bisect_left(numbers, cut)
    return Parts(numbers[:place], numbers[place:])


def _texture_sources(recipe: Recipe) -> Parts[Source]:
    settings = recipe.realnet
    few = ImageError(
        problem=f"there is a single texture image in {settings.textures}.",
        fix="Give two or more with --textures: some to learn from, others to validate on.",
    )
    paths = kept_apart(texture_files(settings.textures), recipe, few)
    # Textures have no right shape, so stretching does no harm.
    spec = ImageSpec(recipe.mode, settings.image_size, "stretch")
    return Parts(*(TextureSource(some, spec, settings.texture_opacity) for some in paths))


def useful_twins(recipe: Recipe, reader: SampleReader) -> TwinSource:
    """Returns the twins whose mask areas `realnet.mask_area` allows; `CorpusError` if none."""
    low, high = recipe.realnet.mask_area
    if reader.form.kind != TWINS:
        raise CorpusError(
            problem=f"{reader.corpus} holds {reader.form.kind}, not twins with masks.",
            fix="Make them with 'sia-gen synthesize --twins', or leave --anomalies out.",
        )
    useful = np.flatnonzero((reader.mask_areas >= low) & (reader.mask_areas <= high)).tolist()
    if reader.form.tile is not None:
        # The limits are shares of a tile.
        useful = np.flatnonzero(reader.mask_areas).tolist()
    if not useful:
        raise CorpusError(
            problem=f"no mask of {reader} covers {in_percent(low, 2)} to {in_percent(high)} "
            "of its image.",
            fix="Make twins of another strength or region, or change the recipe's "
            "'realnet.mask_area'.",
        )
    return TwinSource(reader, ImageSpec.of(recipe, recipe.realnet.image_size), useful)


def texture_files(folder: str | None) -> list[Path]:
    """Returns the images anywhere below a folder, sorted; `UserError` if there are none."""
    if folder is None:
        raise OptionError(
            problem="no texture folder was given.",
            fix="Give a folder of images with --textures, e.g. that of DTD.",
        )
    paths = images_below(Path(folder))
    if not paths:
        raise ImageError(
            problem=f"there are no texture images in {folder}.", fix="Check --textures."
        )
    return paths


def augment(pixels: Pixels, rng: Rng) -> Pixels:
    """Changes an image (C, H, W), 0 to 255, in three random ways."""
    picture, changes = to_picture(pixels), list(CHANGES.values())
    for place in rng.permutation(len(changes))[:CHANGES_AT_A_TIME]:
        picture = changes[place](picture, rng)
    return to_pixels(picture)


def _change_gamma(picture: Image.Image, rng: Rng) -> Image.Image:
    bands = len(picture.getbands())
    exponents = rng.uniform(0.5, 2.0, size=bands)
    levels = np.arange(256) / 255
    tables = [np.rint(255 * levels**exponent).astype(int).tolist() for exponent in exponents]
    return picture.point([value for table in tables for value in table])


def _change_brightness(picture: Image.Image, rng: Rng) -> Image.Image:
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return picture.point(lambda value: value * factor + offset)


def _change_colour(picture: Image.Image, rng: Rng) -> Image.Image:
    """Shifts the hue and scales the saturation of a picture in colour."""
    if picture.mode != "RGB":
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    shift, factor = int(rng.integers(-36, 37)), rng.uniform(0.5, 1.5)
    shifted = hue.point(lambda level: (level + shift) % 256)
    scaled = saturation.point(lambda level: level * factor)
    return Image.merge("HSV", (shifted, scaled, value)).convert("RGB")


CHANGES: dict[str, Change] = {
    "gamma": _change_gamma,
    "brightness": _change_brightness,
    # Below 1 it blurs, above 1 it sharpens.
    "sharpness": lambda picture, rng: ImageEnhance.Sharpness(picture).enhance(rng.uniform(0, 3)),
    "colour": _change_colour,
    "solarize": lambda picture, rng: ImageOps.solarize(picture, int(rng.integers(32, 129))),
    "posterize": lambda picture, rng: ImageOps.posterize(picture, int(rng.integers(2, 7))),
    "invert": lambda picture, _: ImageOps.invert(picture),
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "rotate": lambda picture, rng: picture.rotate(rng.uniform(-45, 45), BILINEAR),
}
