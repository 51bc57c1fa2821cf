"""Reads a corpus back: the synthetic images of a category."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sia_gen.corpus.manifest import COMPLETE, read_corpus
from sia_gen.corpus.shards import read_shards
from sia_gen.errors import CorpusError
from sia_gen.images.loading import to_pixels, to_square
from sia_gen.locations import Location


def require_category(corpus: Location, dataset: str, category: str) -> list[dict[str, Any]]:
    """The shards of a category, as they stand in the manifest.

    Of several data sets that have the category, `dataset` decides.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards.
    """
    shards = [shard for shard in read_corpus(corpus)["shards"] if shard["category"] == category]
    shards = [shard for shard in shards if shard["dataset"] == dataset] or shards
    if not shards:
        raise CorpusError(
            problem=f"the corpus {corpus} has no category '{category}'.",
            fix=f"Make it with 'sia-gen synthesize --category {category}'.",
        )
    for shard in shards:
        if shard["state"] != COMPLETE or not (corpus / shard["path"]).is_file():
            raise CorpusError(
                problem=f"the shard {corpus / shard['path']} is missing.",
                fix="Run 'sia-gen synthesize' again: it makes the missing shards.",
            )
    return shards


def read_category(
    corpus: Location, dataset: str, category: str, first: int
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Streams the samples of a category without end, from number `first` on, over and over.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards, or they are damaged.
    """
    shards = require_category(corpus, dataset, category)
    skip = first % sum(shard["samples"] for shard in shards)
    for shard in cycle(shards):
        if skip >= shard["samples"]:
            skip -= shard["samples"]
            continue
        yield from islice(read_whole(corpus, shard), skip, None)
        skip = 0


def read_whole(
    corpus: Location, shard: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Streams the samples of a shard; `CorpusError` if it is damaged."""
    count = 0
    try:
        for sample in read_shards([corpus / shard["path"]]):
            count += 1
            yield sample
    except (tarfile.TarError, OSError, SyntaxError, ValueError) as error:
        raise damaged(corpus, shard, str(error)) from error
    # A tar file cut between two members reads short without an error.
    if count != shard["samples"]:
        raise damaged(corpus, shard, f"{count} samples, not {shard['samples']}")


def load_corpus_images(
    corpus: Location, dataset: str, category: str, mode: Literal["L", "RGB"], size: int
) -> NDArray[np.uint8]:
    """All images of a category, (N, C, size, size), 0 to 255.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards, or they are damaged.
    """
    images = []
    for shard in require_category(corpus, dataset, category):
        for _, image in read_whole(corpus, shard):
            square = to_square(image.convert(mode), Path(str(corpus)), size, None)
            images.append(to_pixels(square))
    return np.stack(images)


def damaged(corpus: Location, shard: dict[str, Any], why: str) -> CorpusError:
    """The error of a shard that does not read as it was written."""
    return CorpusError(
        problem=f"the shard {corpus / shard['path']} is damaged ({why}).",
        fix="Delete it and run 'sia-gen synthesize' again: it makes the missing shards.",
    )
