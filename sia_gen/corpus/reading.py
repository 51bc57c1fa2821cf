"""Reads a corpus back: the samples of a category, as a stream."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from sia_gen.corpus.manifest import COMPLETE, read_corpus
from sia_gen.corpus.shards import decode_sample, read_raw
from sia_gen.errors import CorpusError, first_line
from sia_gen.locations import Location

# The shard a sample is in, as the manifest has it, and its members as they are in the shard.
RawSample = tuple[dict[str, Any], dict[str, Any]]


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


def read_raw_shard(corpus: Location, shard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Streams the samples of a shard as they are in it; `CorpusError` if some are missing."""
    count = 0
    with reporting_damage(corpus, shard):
        for raw in read_raw(corpus / shard["path"]):
            count += 1
            yield raw
    # A tar file cut between two members reads short without an error.
    if count != shard["samples"]:
        raise damaged(corpus, shard, f"{count} samples, not {shard['samples']}")


def read_whole(
    corpus: Location, shard: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Streams the samples of a shard, decoded; `CorpusError` if it is damaged."""
    for raw in read_raw_shard(corpus, shard):
        with reporting_damage(corpus, shard):
            sample = decode_sample(raw)
        yield sample


@contextmanager
def reporting_damage(corpus: Location, shard: dict[str, Any]) -> Iterator[None]:
    """Turns what a damaged shard raises into a `CorpusError` that names it."""
    try:
        yield
    except OSError as error:
        if isinstance(corpus, Path):
            raise damaged(corpus, shard, str(error)) from error
        # What is far away may well be whole.
        raise CorpusError(
            problem=f"cannot read the shard {corpus / shard['path']} ({first_line(error)}).",
            fix="Check the connection, then run the same command again.",
        ) from error
    except (tarfile.TarError, SyntaxError, ValueError) as error:
        raise damaged(corpus, shard, str(error)) from error


class SampleReader:
    """The samples of a category by number, read as a stream, so that any corpus fits into memory.

    Samples are independent of each other: their order is as good as any shuffle. Ascending numbers
    are read fastest; after the last sample comes the first again.

    Args:
        corpus: Folder or URL of the corpus.
        dataset: Decides between several data sets that have the category.
        category: Which to read.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards.
    """

    def __init__(self, corpus: Location, dataset: str, category: str) -> None:
        self.corpus = corpus
        self.shards = require_category(corpus, dataset, category)
        self.total = sum(shard["samples"] for shard in self.shards)
        self.stream: Iterator[RawSample] | None = None
        self.next_number = 0

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it opens the stream anew."""
        return self.__dict__ | {"stream": None}

    def __getitem__(self, number: int) -> tuple[dict[str, Any], Image.Image]:
        """The metadata and the picture of a sample; `CorpusError` if its shard is damaged."""
        place = number % self.total
        if self.stream is None or place < self.next_number:
            self.stream, self.next_number = self.read_from(place)
        shard, raw = next(islice(self.stream, place - self.next_number, None))
        self.next_number = place + 1
        with reporting_damage(self.corpus, shard):
            return decode_sample(raw)

    def read_from(self, place: int) -> tuple[Iterator[RawSample], int]:
        """A stream from the shard that holds a place, and the number of its first sample."""
        first = 0
        for position, shard in enumerate(self.shards):
            if place < first + shard["samples"]:
                shards = self.shards[position:]
                return ((s, raw) for s in shards for raw in read_raw_shard(self.corpus, s)), first
            first += shard["samples"]
        msg = "a corpus without samples"
        raise ValueError(msg)


def damaged(corpus: Location, shard: dict[str, Any], why: str) -> CorpusError:
    """The error of a shard that does not read as it was written."""
    return CorpusError(
        problem=f"the shard {corpus / shard['path']} is damaged ({why}).",
        fix="Delete it and run 'sia-gen synthesize' again: it makes the missing shards.",
    )
