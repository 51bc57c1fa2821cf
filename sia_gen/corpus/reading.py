"""Reads a corpus back: the samples of a category, as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any, cast

from PIL import Image

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.manifest import read_corpus
from sia_gen.corpus.members import RawSample, decode_sample, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import TRIPLETS, SampleForm
from sia_gen.errors import CorpusError, first_line
from sia_gen.locations import Location

OTHER_CHECKSUM = "checksum differs from the manifest"
# The metadata of a sample and its pictures by their extension, such as `mask.png`.
Sample = tuple[dict[str, Any], dict[str, Image.Image]]


def read_synthetic(corpus: Location) -> dict[str, Any]:
    """The manifest of a corpus of synthetic images; see `read_corpus`.

    Raises:
        CorpusError: If the corpus holds anything else.
    """
    manifest = read_corpus(corpus)
    if manifest["kind"] == TRIPLETS:
        raise CorpusError(
            problem=f"{corpus} holds {manifest['kind']}, not synthetic images.",
            fix="Give a corpus that 'sia-gen synthesize' made.",
        )
    return manifest


def require_category(
    corpus: Location, manifest: dict[str, Any], dataset: str, category: str
) -> list[dict[str, Any]]:
    """The shards of a category, as they stand in the manifest.

    Args:
        corpus: Where they lie.
        manifest: Of the corpus, as `read_corpus` gives it.
        dataset: Decides between several data sets that have the category.
        category: Whose shards.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards.
    """
    shards = [shard for shard in manifest["shards"] if shard["category"] == category]
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


def read_raw(corpus: Location, shard: ShardRecord, form: SampleForm) -> Iterator[RawSample]:
    """Streams the samples of a shard as they are in it; `CorpusError` if it is damaged.

    The last of them comes once the checksum of the shard is found to be right.
    """
    with reporting_damage(corpus, shard), (corpus / shard.path).open("rb") as file:
        hashing = HashingReader(file)
        held_back: list[RawSample] = []
        for sample in read_samples(cast("IO[bytes]", hashing), shard, form):
            yield from held_back
            held_back = [sample]
        if hashing.finish() != shard.sha256:
            raise ValueError(OTHER_CHECKSUM)
        yield from held_back


def read_whole(corpus: Location, shard: ShardRecord, form: SampleForm) -> Iterator[Sample]:
    """Streams the samples of a shard, decoded; `CorpusError` if it is damaged."""
    with reporting_damage(corpus, shard):
        for raw in read_raw(corpus, shard, form):
            yield decode_sample(raw, shard, form)


class HashingReader:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Reads some bytes."""
        content = self.file.read(size)
        self.sha256.update(content)
        return content

    def finish(self) -> str:
        """SHA-256 of the whole file, hexadecimal."""
        while self.read(1 << 20):
            pass
        return self.sha256.hexdigest()


@contextmanager
def reporting_damage(corpus: Location, shard: ShardRecord) -> Iterator[None]:
    """Turns what a shard that is damaged, or out of reach, raises into an error that names it."""
    try:
        yield
    except OSError as error:
        # What is far away, or may not be read, may well be whole.
        raise CorpusError(
            problem=f"cannot read the shard {corpus / shard.path} ({first_line(error)}).",
            fix="Check the connection or the disk, then run the same command again.",
        ) from error
    except ValueError as error:
        raise CorpusError(
            problem=f"the shard {corpus / shard.path} is damaged ({first_line(error)}).",
            fix="Delete it and run 'sia-gen synthesize' again: it makes the missing shards.",
        ) from error


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
        manifest = read_synthetic(corpus)
        self.form = SampleForm.of(manifest)
        shards = require_category(corpus, manifest, dataset, category)
        self.shards = [record_of(shard) for shard in shards]
        self.total = sum(shard.samples for shard in self.shards)
        self.stream: Iterator[tuple[ShardRecord, RawSample]] | None = None
        self.next_number = 0

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it opens the stream anew."""
        return self.__dict__ | {"stream": None}

    def __getitem__(self, number: int) -> tuple[dict[str, Any], Image.Image]:
        """The metadata and the picture of a sample; `CorpusError` if its shard is damaged."""
        metadata, images = self.read(number)
        return metadata, images[self.form.picture]

    def read(self, number: int) -> Sample:
        """The metadata and all pictures of a sample; `CorpusError` if its shard is damaged."""
        place = number % self.total
        if self.stream is None or place < self.next_number:
            self.stream, self.next_number = self.read_from(place)
        shard, raw = next(islice(self.stream, place - self.next_number, None))
        self.next_number = place + 1
        with reporting_damage(self.corpus, shard):
            return decode_sample(raw, shard, self.form)

    def read_from(self, place: int) -> tuple[Iterator[tuple[ShardRecord, RawSample]], int]:
        """A stream from the shard that holds a place, and the number of its first sample."""
        first = 0
        for position, shard in enumerate(self.shards):
            if place < first + shard.samples:
                return self.stream_of(self.shards[position:]), first
            first += shard.samples
        msg = "a corpus without samples"
        raise ValueError(msg)

    def stream_of(self, shards: list[ShardRecord]) -> Iterator[tuple[ShardRecord, RawSample]]:
        """The samples of shards, each with its shard."""
        return ((shard, raw) for shard in shards for raw in read_raw(self.corpus, shard, self.form))
