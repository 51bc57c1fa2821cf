"""Twins as triplets: a corpus of them has image, mask and normal image already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sia_gen.anomalies.sources import TwinSource, useful_twins
from sia_gen.composition.triplets import Triplet
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import TwinMetadata
from sia_gen.io.locations import Location


@dataclass
class TwinComposer:
    """Gives the twins of a category; see `sia_gen.composition.triplets.Composer`.

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
