"""Goes through all samples of a category once, and keeps what a page needs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import read_whole
from sia_gen.corpus.schema import SampleForm
from sia_gen.images.loading import to_pixels
from sia_gen.inspection.distance import Pixels
from sia_gen.locations import Location
from sia_gen.progress import Progress

# Samples of a category that are looked at closely, at most.
EXAMINED = 256


@dataclass(frozen=True)
class Survey:
    """The samples of a category.

    Attributes:
        strengths: Of all samples, (N,).
        duplicates: Groups of keys whose pixels are all equal.
        keys: Of the samples looked at closely, E of them, in the order of their strength.
        examined: These, (E, C, H, W), 0 to 255.
        examined_strengths: Their strengths, (E,), ascending.
    """

    strengths: NDArray[np.float64]
    duplicates: list[list[str]]
    keys: list[str]
    examined: Pixels
    examined_strengths: NDArray[np.float64]


def survey_category(
    corpus: Location, shards: Sequence[ShardRecord], form: SampleForm, progress: Progress
) -> Survey:
    """Reads the shards of a category, one sample at a time.

    Raises:
        CorpusError: If one is damaged.
    """
    total = sum(shard.samples for shard in shards)
    close = set(np.linspace(0, total - 1, min(EXAMINED, total)).round().astype(int).tolist())
    strengths, kept, by_pixels = [], [], dict[bytes, list[str]]()
    for number, (metadata, image) in enumerate(samples(corpus, shards, form)):
        pixels = to_pixels(image.convert(form.mode))
        strengths.append(metadata["strength"])
        digest = hashlib.sha256(pixels.tobytes()).digest()
        by_pixels.setdefault(digest, []).append(metadata["key"])
        if number in close:
            kept.append((strengths[-1], metadata["key"], pixels))
        progress.advance()
    kept.sort(key=lambda sample: sample[:2])
    return Survey(
        strengths=np.array(strengths),
        duplicates=[keys for keys in by_pixels.values() if len(keys) > 1],
        keys=[key for _, key, _ in kept],
        examined=np.stack([pixels for _, _, pixels in kept]),
        examined_strengths=np.array([strength for strength, _, _ in kept]),
    )


def samples(
    corpus: Location, shards: Sequence[ShardRecord], form: SampleForm
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """The samples of shards, one after another."""
    for shard in shards:
        for metadata, images in read_whole(corpus, shard, form):
            yield metadata, images[form.picture]
