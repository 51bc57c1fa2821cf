"""The identity of a sample: key, seed and strength follow from its place in the corpus alone.

So a corpus is the same however many processes make it, and any sample can be made again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sia_gen.config.strength import Strength
from sia_gen.corpus.schema import sample_key

# Seeds and fractions have 53 bits: every JSON reader keeps them exactly.
BITS = 53


@dataclass(frozen=True)
class SampleIdentity:
    """What a sample is called and made from."""

    key: str
    dataset: str
    category: str
    index: int
    seed: int
    strength: float


def identify(
    corpus_seed: int, dataset: str, category: str, index: int, strength: Strength
) -> SampleIdentity:
    """The identity of sample `index` of a category; its strength is uniform in the range."""
    digest = hashlib.sha256(f"{corpus_seed}/{dataset}/{category}/{index}".encode()).digest()
    seed, fraction = (
        int.from_bytes(digest[start : start + 8], "big") >> (64 - BITS) for start in (0, 8)
    )
    return SampleIdentity(
        key=sample_key(dataset, category, index),
        dataset=dataset,
        category=category,
        index=index,
        seed=seed,
        strength=float(strength.at(fraction / 2**BITS)),
    )
