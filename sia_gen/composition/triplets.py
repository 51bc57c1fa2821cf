"""Triplets: a local anomaly, its mask, and the normal image it was made from.

Unlike in the fitting of RealNet every triplet is anomalous, and each takes the next synthetic image
of the corpus, so that the corpus streams however large it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_gen.anomalies.paste import LocalAnomalies, Pixels
from sia_gen.anomalies.sources import SDASSource, useful_twins
from sia_gen.config.recipe import Recipe
from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import ShardPlan, identify
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK, TripletMetadata, TwinMetadata
from sia_gen.corpus.shards import EncodedSample, encode_sample
from sia_gen.images.layouts import name_below
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, to_picture
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.io.files import Location
from sia_gen.version import __version__


@dataclass(frozen=True)
class Triplet:
    """One local anomaly.

    Attributes:
        metadata: The `json` member of its sample.
        image: The anomalous image, (C, H, W), 0 to 255.
        mask: (1, H, W), 255 where the image is anomalous, else 0.
        normal: The normal image, (C, H, W), 0 to 255.
    """

    metadata: TripletMetadata | TwinMetadata
    image: Pixels
    mask: Pixels
    normal: Pixels

    def encoded(self) -> list[EncodedSample]:
        """Encodes the triplet as one sample."""
        images = {"image.png": self.image, MASK: self.mask, "normal.png": self.normal}
        pictures = {name: to_picture(pixels) for name, pixels in images.items()}
        return [encode_sample(self.metadata, pictures)]


class Composer:
    """Makes the triplets of a category from synthetic images of a corpus.

    It holds the normal images to learn from; those of the test are not read.
    """

    left_out = 0

    def __init__(self, recipe: Recipe, category: str, root: Path, corpus: Location) -> None:
        settings, rule = recipe.realnet, recipe.foreground.get(category)
        self.recipe, self.category, self.root = recipe, category, root
        self.paths = list_images(recipe, root, category).fit
        spec = ImageSpec.of(recipe, settings.image_size)
        (normal,) = open_images([self.paths], spec, [rule])
        reader = SampleReader(corpus, recipe.dataset, category)
        self.source = SDASSource(reader, spec, settings.opacity, range(reader.total))
        self.anomalies = LocalAnomalies(
            normal=normal,
            sources=[self.source],
            anomalous_fraction=1.0,
            horizontal_flip=settings.horizontal_flip,
            vertical_flip=settings.vertical_flip,
            foreground=open_foregrounds(normal, rule),
        )

    def triplets(self, shard: ShardPlan) -> Iterator[Triplet]:
        """Yields the triplets of a shard, in the order of their indices."""
        return map(self.triplet, shard.indices)

    def triplet(self, index: int) -> Triplet:
        """Pastes a piece of the synthetic image with this index into some normal image."""
        synthetic, piece = self.source.read(index)
        dataset, no_strength = self.recipe.dataset, Strength(0, 0)
        identity = identify(self.recipe.seed, dataset, self.category, index, no_strength)
        rng = np.random.default_rng(identity.seed)
        number = int(rng.integers(len(self.paths)))
        normal, foreground = self.anomalies.flipped(number, rng)
        image, mask, opacity = self.anomalies.paste(piece, normal, foreground, rng)
        metadata = TripletMetadata(
            key=identity.key,
            dataset=dataset,
            category=self.category,
            index=index,
            normal=name_below(self.root, self.paths[number]),
            source=synthetic["key"],
            strength=float(synthetic["strength"]),
            opacity=opacity,
            mask_area=float(mask.mean()),
            seed=identity.seed,
            model=synthetic["model"],
            width=normal.shape[-1],
            height=normal.shape[-2],
            sia_gen=__version__,
        )
        return Triplet(metadata, _to_bytes(image), _to_bytes(mask), _to_bytes(normal))


class TwinComposer:
    """Gives the twins of a category as triplets, except those whose masks are useless.

    Attributes:
        left_out: Number of twins that were left out so far.

    Raises:
        CorpusError: If no mask of the category is useful.
    """

    def __init__(self, recipe: Recipe, category: str, corpus: Location) -> None:
        self.source = useful_twins(recipe, SampleReader(corpus, recipe.dataset, category))
        self.useful = frozenset(self.source.numbers)
        self.left_out = 0

    def triplets(self, shard: ShardPlan) -> Iterator[Triplet]:
        """Yields the useful twins of a shard, in the order of their indices."""
        for index in shard.indices:
            if index in self.useful:
                metadata, twin = self.source.read(index)
                yield Triplet(TwinMetadata(**metadata), twin.anomalous, twin.mask, twin.normal)
            else:
                self.left_out += 1


def _to_bytes(image: NDArray[np.float32]) -> Pixels:
    return (image * np.float32(255)).round().astype(np.uint8)
