"""Goes through all samples of a category once, and keeps what a page needs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.parsing import Sample
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import read_whole
from sia_gen.corpus.schema import MASK, TWINS, SampleForm
from sia_gen.images.loading import to_pixels
from sia_gen.inspection.distance import Pixels
from sia_gen.io.locations import Location
from sia_gen.runtime.progress import Progress

# Samples of a category that are looked at closely, at most.
EXAMINED = 256
# Side of the pictures that are shown, pixels.
THUMBNAIL = 128


@dataclass(frozen=True)
class SmallTwins:
    """A pair of twins and their mask, made small.

    Attributes:
        strength: Of the abnormal one.
        area: Share of the pixels that the mask covers.
        pictures: The normal twin, the abnormal one and the mask.
    """

    strength: float
    area: float
    pictures: tuple[Image.Image, Image.Image, Image.Image]

    @classmethod
    def of(cls, sample: Sample, form: SampleForm) -> SmallTwins:
        """Makes a sample small."""
        metadata, images = sample
        normal, abnormal, mask = (
            images[name] for name in (f"normal.{form.format}", form.picture, MASK)
        )
        for picture in (normal, abnormal):
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
        mask = mask.resize(normal.size, Image.Resampling.NEAREST)
        return cls(metadata["strength"], metadata["mask_area"], (normal, abnormal, mask))


@dataclass(frozen=True)
class Survey:
    """The samples of a category.

    Attributes:
        strengths: Of all samples, (N,).
        duplicates: Groups of keys whose pixels are all equal.
        keys: Of the samples looked at closely, E of them, in the order of their strength.
        examined: These, (E, C, H, W), 0 to 255.
        examined_strengths: Their strengths, (E,), ascending.
        areas: Shares of the pixels that the masks of all samples cover, (N,); none without twins.
        twins: The samples looked at closely and their twins, E of them; likewise.
    """

    strengths: NDArray[np.float64]
    duplicates: list[list[str]]
    keys: list[str]
    examined: Pixels
    examined_strengths: NDArray[np.float64]
    areas: NDArray[np.float64]
    twins: list[SmallTwins]


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
    areas, twins = list[float](), list[SmallTwins]()
    for number, (metadata, images) in enumerate(samples(corpus, shards, form)):
        pixels = to_pixels(images[form.picture].convert(form.mode))
        strengths.append(metadata["strength"])
        digest = hashlib.sha256(pixels.tobytes()).digest()
        by_pixels.setdefault(digest, []).append(metadata["key"])
        if number in close:
            kept.append((strengths[-1], metadata["key"], pixels))
        if form.kind == TWINS:
            areas.append(metadata["mask_area"])
            if number in close:
                twins.append(SmallTwins.of((metadata, images), form))
        progress.advance()
    kept.sort(key=lambda sample: sample[:2])
    return Survey(
        strengths=np.array(strengths),
        duplicates=[keys for keys in by_pixels.values() if len(keys) > 1],
        keys=[key for _, key, _ in kept],
        examined=np.stack([pixels for _, _, pixels in kept]),
        examined_strengths=np.array([strength for strength, _, _ in kept]),
        areas=np.array(areas),
        twins=sorted(twins, key=lambda one: one.strength),
    )


def samples(corpus: Location, shards: Sequence[ShardRecord], form: SampleForm) -> Iterator[Sample]:
    """The samples of shards, one after another."""
    for shard in shards:
        yield from read_whole(corpus, shard, form)
