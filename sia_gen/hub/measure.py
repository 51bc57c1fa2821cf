"""Looks at the samples of a corpus, for its card: figures, and a picture by strength."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, groupby, islice

import numpy as np
from PIL import Image

from sia_gen.corpus.card import CategoryFacts
from sia_gen.corpus.manifest import Manifest
from sia_gen.corpus.parsing import Sample
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import read_whole
from sia_gen.corpus.schema import TWINS, SampleForm
from sia_gen.images.loading import to_pixels
from sia_gen.inspection.page import sample_statistics
from sia_gen.io.locations import Location

# Samples of a category that are looked at; they are independent, so the first are as good as any.
EXAMINED = 256
COLUMNS, CELL, GAP = 8, 96, 4


def measure(corpus: Location, manifest: Manifest) -> tuple[list[CategoryFacts], Image.Image]:
    """The facts of every category, and a picture with rows of samples, weakest first.

    Raises:
        CorpusError: If a shard is damaged.
    """
    form = manifest.form
    members = list(form.images)
    facts, rows = [], []
    for name, group in groupby(manifest.records, key=lambda shard: shard.name):
        shards = list(group)
        samples = examine(corpus, shards, form)
        shown = [
            samples[place]
            for place in np.linspace(0, len(samples) - 1, min(COLUMNS, len(samples)))
            .round()
            .astype(int)
            .tolist()
        ]
        pixels = [to_pixels(images[form.picture].convert(form.mode)) for _, images in samples]
        measured = sample_statistics(np.stack(pixels))
        if form.kind == TWINS:
            measured |= mask_statistics([metadata["mask_area"] for metadata, _ in samples])
        facts.append(
            CategoryFacts(
                name=name,
                samples=sum(shard.samples for shard in shards),
                bytes=sum(shard.bytes for shard in shards),
                model=shards[0].model,
                measured=measured,
                shown=[metadata["strength"] for metadata, _ in shown],
            )
        )
        rows += [[images[member] for _, images in shown] for member in members]
    return facts, contact_sheet(rows)


def examine(corpus: Location, shards: Sequence[ShardRecord], form: SampleForm) -> list[Sample]:
    """The first samples of a category, metadata and images, in the order of their strength."""
    samples = chain.from_iterable(read_whole(corpus, shard, form) for shard in shards)
    return sorted(islice(samples, EXAMINED), key=lambda sample: float(sample[0]["strength"]))


def mask_statistics(areas: Sequence[float]) -> dict[str, str]:
    """Figures of masks from the shares of the pixels that they cover, in words."""
    quartiles = np.quantile(areas, (0.25, 0.5, 0.75))
    return {
        "area of masks: mean": f"{np.mean(areas):.3f}",
        "its quartiles": ", ".join(f"{value:.3f}" for value in quartiles),
        "empty masks": str(sum(area == 0 for area in areas)),
    }


def contact_sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Small versions of images in rows, on white."""
    step = CELL + GAP
    size = (max(len(row) for row in rows) * step - GAP, len(rows) * step - GAP)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            small = image.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(small, (x * step, y * step))
    return sheet
