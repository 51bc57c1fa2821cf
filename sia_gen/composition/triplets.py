"""Triplets: a local anomaly, its mask, and the normal image it was made from.

Unlike in the fitting of RealNet every triplet is anomalous, and each takes the next synthetic image
of the corpus, so that the corpus streams however large it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_gen.anomalies.paste import LocalAnomalies, Pixels
from sia_gen.anomalies.sources import SDASSource, TwinSource, useful_twins
from sia_gen.config.recipe import Recipe
from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import ShardPlan, identify
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import TripletMetadata, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.images.layouts import name_below
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, to_picture
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.io.locations import Location
from sia_gen.version import __version__


@dataclass(frozen=True)
class Triplet:
    """One local anomaly.

    Attributes:
        metadata: What there is to know about it.
        image: The anomalous image, (C, H, W), 0 to 255.
        mask: (1, H, W), 255 where it is anomalous, else 0.
        normal: The normal image, (C, H, W), 0 to 255.
    """

    metadata: TripletMetadata | TwinMetadata
    image: Pixels
    mask: Pixels
    normal: Pixels

    def encoded(self) -> list[EncodedSample]:
        """The sample of it, with `image.png`, `mask.png`, `normal.png` and `json`."""
        images = {"image.png": self.image, "mask.png": self.mask, "normal.png": self.normal}
        pictures = {name: to_picture(pixels) for name, pixels in images.items()}
        return [encode_sample(self.metadata, pictures)]


@dataclass(frozen=True)
class Composer:
    """Makes the triplets of a category; see `Composer.of`."""

    recipe: Recipe
    category: str
    root: Path
    paths: list[Path]
    source: SDASSource
    anomalies: LocalAnomalies

    @classmethod
    def of(cls, recipe: Recipe, category: str, root: Path, corpus: Location) -> Composer:
        """Loads the normal images to learn from; those of the test are not read."""
        settings, rule = recipe.realnet, recipe.foreground.get(category)
        paths = list_images(recipe, root, category).fit
        spec = ImageSpec.of(recipe, settings.image_size)
        (normal,) = open_images([paths], spec, [rule])
        reader = SampleReader(corpus, recipe.dataset, category)
        source = SDASSource(reader, spec, settings.opacity, range(reader.total))
        anomalies = LocalAnomalies(
            normal=normal,
            sources=[source],
            anomalous_fraction=1.0,
            horizontal_flip=settings.horizontal_flip,
            vertical_flip=settings.vertical_flip,
            foreground=open_foregrounds(normal, rule),
        )
        return cls(recipe, category, root, paths, source, anomalies)

    def triplets(self, shard: ShardPlan) -> Iterator[Triplet]:
        """The triplets of a shard, in the order of their indices."""
        for index in shard.indices:
            yield self.triplet(index)

    def triplet(self, index: int) -> Triplet:
        """The triplet of an index: a piece of that sample of the corpus, in some normal image."""
        source, piece = self.source.read(index)
        identity = identify(
            self.recipe.seed, self.recipe.dataset, self.category, index, Strength(0, 0)
        )
        rng = np.random.default_rng(identity.seed)
        number = int(rng.integers(len(self.paths)))
        normal, foreground = self.anomalies.flipped(number, rng)
        image, mask, opacity = self.anomalies.paste(piece, normal, foreground, rng)
        metadata = TripletMetadata(
            key=identity.key,
            dataset=identity.dataset,
            category=identity.category,
            index=index,
            normal=name_below(self.root, self.paths[number]),
            source=source["key"],
            strength=float(source["strength"]),
            opacity=opacity,
            mask_area=float(mask.mean()),
            seed=identity.seed,
            model=source["model"],
            width=normal.shape[-1],
            height=normal.shape[-2],
            sia_gen=__version__,
        )
        return Triplet(metadata, to_bytes(image), to_bytes(mask), to_bytes(normal))


@dataclass
class TwinComposer:
    """Gives the twins of a category as triplets; see `Composer`.

    Attributes:
        source: Reads them.
        useful: The indices of those to give.
        left_out: How many it did not give, since their masks are of no use.
    """

    source: TwinSource
    useful: frozenset[int]
    left_out: int = 0

    @classmethod
    def of(cls, recipe: Recipe, category: str, corpus: Location) -> TwinComposer:
        """Opens a corpus; `CorpusError` if no mask in it is of use."""
        source = useful_twins(recipe, SampleReader(corpus, recipe.dataset, category))
        return cls(source, frozenset(source.numbers))

    def triplets(self, shard: ShardPlan) -> Iterator[Triplet]:
        """The twins of a shard whose masks are of use, in the order of their indices."""
        for index in shard.indices:
            if index in self.useful:
                metadata, twin = self.source.read(index)
                yield Triplet(TwinMetadata(**metadata), twin.anomalous, twin.mask, twin.normal)
            else:
                self.left_out += 1


def to_bytes(image: NDArray[np.float32]) -> Pixels:
    """An image in [0, 1] as pixels from 0 to 255."""
    return (image * np.float32(255)).round().astype(np.uint8)
