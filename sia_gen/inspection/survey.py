"""Goes through all samples of a category once, and keeps what a page needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.cutting import tile_of
from sia_gen.corpus.parsing import Sample
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import read_whole
from sia_gen.corpus.schema import MASK, TWINS, SampleForm
from sia_gen.images.loading import Pixels, to_pixels
from sia_gen.io.files import Location
from sia_gen.runtime.progress import Progress

# Largest number of samples of a category that are examined closely.
EXAMINED = 256
# Pixels per side of the pictures on a page.
THUMBNAIL = 128


@dataclass(frozen=True)
class Survey:
    """The samples of a category.

    Attributes:
        form: What every sample consists of.
        perturbations: Perturbations of all samples, (N,).
        strengths: Strengths of all samples, (N,).
        areas: Shares of the pixels that the masks of all samples cover, (N,); empty without twins.
        duplicates: Groups of keys of samples whose pixels are all equal.
        examined: Metadata of some samples, evenly chosen, in the order of strength; of twins also
            the images, at most `THUMBNAIL` pixels wide and high.
        pixels: The anomalous image of each of these, (E, C, H, W), 0 to 255.
    """

    form: SampleForm
    perturbations: NDArray[np.str_]
    strengths: NDArray[np.float64]
    areas: NDArray[np.float64]
    duplicates: list[list[str]]
    examined: list[Sample]
    pixels: Pixels

    @property
    def examined_strengths(self) -> NDArray[np.float64]:
        """Strengths of the examined samples, ascending, (E,)."""
        return np.array([metadata["strength"] for metadata, _ in self.examined])

    def by_perturbation(self) -> dict[str, Survey]:
        """Returns the samples of each perturbation of which some were examined."""
        kinds = {str(metadata["perturbation"]) for metadata, _ in self.examined}
        return {kind: self._of(kind) for kind in sorted(kinds)}

    def _of(self, kind: str) -> Survey:
        chosen = self.perturbations == kind
        examined = [metadata["perturbation"] == kind for metadata, _ in self.examined]
        return replace(
            self,
            perturbations=self.perturbations[chosen],
            strengths=self.strengths[chosen],
            areas=self.areas[chosen] if len(self.areas) else self.areas,
            examined=list(compress(self.examined, examined)),
            pixels=self.pixels[examined],
        )


def survey_category(
    corpus: Location, shards: Sequence[ShardRecord], form: SampleForm, progress: Progress
) -> Survey:
    """Reads the shards of a category, one sample at a time.

    Raises:
        CorpusError: If one is damaged.
    """
    chosen = set(evenly_spaced(EXAMINED, sum(shard.samples for shard in shards)))
    perturbations, strengths, areas = list[str](), list[float](), list[float]()
    examined: list[tuple[Sample, Pixels]] = []
    by_pixels: dict[bytes, list[str]] = {}
    samples = chain.from_iterable(read_whole(corpus, shard, form) for shard in shards)
    for number, sample in enumerate(samples):
        metadata, images = tile_of(sample, form)
        perturbations.append(metadata["perturbation"])
        strengths.append(metadata["strength"])
        if form.kind == TWINS:
            areas.append(metadata["mask_area"])
        pixels = to_pixels(images[form.picture].convert(form.mode))
        digest = hashlib.sha256(pixels.tobytes()).digest()
        by_pixels.setdefault(digest, []).append(metadata["key"])
        if number in chosen:
            kept = _thumbnails(images) if form.kind == TWINS else {}
            examined.append(((metadata, kept), pixels))
        progress.advance()
    examined.sort(key=lambda one: (one[0][0]["strength"], one[0][0]["key"]))
    return Survey(
        form=form,
        perturbations=np.array(perturbations),
        strengths=np.array(strengths),
        areas=np.array(areas),
        duplicates=[keys for keys in by_pixels.values() if len(keys) > 1],
        examined=[sample for sample, _ in examined],
        pixels=np.stack([pixels for _, pixels in examined]),
    )


def _thumbnails(images: dict[str, Image.Image]) -> dict[str, Image.Image]:
    for name, image in images.items():
        resampling = Image.Resampling.NEAREST if name == MASK else Image.Resampling.BICUBIC
        image.thumbnail((THUMBNAIL, THUMBNAIL), resampling)
    return images


def evenly_spaced(number: int, count: int) -> list[int]:
    """Returns up to `number` of the places 0 to count - 1, evenly spaced, with both ends."""
    places = np.linspace(0, count - 1, min(number, count))
    return [int(place) for place in places.round()]


def sample_pixels(samples: Sequence[Sample], form: SampleForm) -> Pixels:
    """Returns the anomalous image of each sample, (N, C, H, W), 0 to 255."""
    return np.stack([to_pixels(images[form.picture].convert(form.mode)) for _, images in samples])
