"""Reads a corpus back: any sample of a category, or all of a shard as a stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np
from PIL import Image

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.index import find_index
from sia_gen.corpus.manifest import read_corpus
from sia_gen.corpus.members import decode_sample, read_one, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import TRIPLETS, SampleForm
from sia_gen.corpus.shards import ShardIndex
from sia_gen.errors import CorpusError, first_line
from sia_gen.io.files import PLACE
from sia_gen.io.locations import Location, location, public_name, read_range

OTHER_CHECKSUM = "checksum differs from the manifest"
# Indexes are small files: over a network most of the time is waiting.
THREADS = 8
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
        dataset: The data set that has it, as its name stands in the corpus.
        category: Whose shards.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards, or one was cut off.
    """
    wanted = (dataset, category)
    shards = [one for one in manifest["shards"] if (one["dataset"], one["category"]) == wanted]
    if not shards:
        raise missing_category(corpus, manifest, dataset, category)
    for shard in shards:
        path = corpus / shard["path"]
        if shard["state"] != COMPLETE or not path.is_file():
            raise CorpusError(
                problem=f"the shard {path} is missing.",
                fix="Run 'sia-gen synthesize' again: it makes the missing shards.",
            )
        if path.stat().st_size != shard["bytes"]:
            raise damaged(path, f"it has {path.stat().st_size} bytes, not {shard['bytes']}")
    return shards


def missing_category(
    corpus: Location, manifest: dict[str, Any], dataset: str, category: str
) -> CorpusError:
    """The error of a category that a corpus lacks; one of another data set is another category."""
    others = {one["dataset"] for one in manifest["shards"] if one["category"] == category}
    fix = f"Make it with 'sia-gen synthesize --category {category}'."
    if others:
        names = ", ".join(sorted(f"'{other}.{category}'" for other in others))
        fix = f"It has {names}: give the recipe of that data set, or {fix[0].lower()}{fix[1:]}"
    return CorpusError(
        problem=f"the corpus {corpus} has no category '{dataset}.{category}'.", fix=fix
    )


def damaged(path: Location, reason: str) -> CorpusError:
    """The error of a shard that is not as it was written."""
    return CorpusError(
        problem=f"the shard {path} is damaged ({reason}).",
        fix="Delete it with 'sia-gen verify --repair', then run 'sia-gen synthesize' again: it "
        "makes what is missing.",
    )


def read_whole(corpus: Location, shard: ShardRecord, form: SampleForm) -> Iterator[Sample]:
    """Streams the samples of a shard, decoded; `CorpusError` if it is damaged.

    The last of them comes once the checksum of the shard is found to be right.
    """
    with reporting_damage(corpus, shard), (corpus / shard.path).open("rb") as file:
        hashing = HashingReader(file)
        held_back: list[Sample] = []
        for sample in read_samples(cast("IO[bytes]", hashing), shard, form):
            yield from held_back
            held_back = [decode_sample(sample, shard, form)]
        if hashing.finish() != shard.sha256:
            raise ValueError(OTHER_CHECKSUM)
        yield from held_back


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
        raise damaged(corpus / shard.path, first_line(error)) from error


class SampleReader:
    """The samples of a category by number, each read alone; after the last comes the first again.

    Whoever reads it, in whatever process and order, reads what it asks for and no more. That a
    shard has the bytes it was written with is for `verify` to find out.

    Args:
        corpus: Folder or URL of the corpus.
        dataset: The data set that has the category, as its name stands in the corpus.
        category: Which to read.

    Attributes:
        mask_areas: Share of the pixels that each mask covers, (total,); empty without masks.

    Raises:
        CorpusError: If the corpus lacks the category or some of its shards.
    """

    def __init__(self, corpus: Location, dataset: str, category: str) -> None:
        self.corpus = corpus
        self.name = f"{dataset}.{category}"
        manifest = read_synthetic(corpus)
        self.form = SampleForm.of(manifest)
        shards = require_category(corpus, manifest, dataset, category)
        self.shards = [record_of(shard) for shard in shards]
        with ThreadPoolExecutor(THREADS) as threads:
            self.indexes = list(threads.map(self.index, self.shards))
        self.ends = np.cumsum([shard.samples for shard in self.shards])
        self.total = int(self.ends[-1])
        self.mask_areas = np.array([area for one in self.indexes for area in one.mask_areas])
        self.process = os.getpid()

    def __str__(self) -> str:
        return f"'{self.name}' in {self.corpus}"

    def __getitem__(self, number: int) -> tuple[dict[str, Any], Image.Image]:
        """The metadata and the picture of a sample; `CorpusError` if it is damaged."""
        metadata, images = self.read(number)
        return metadata, images[self.form.picture]

    def read(self, number: int) -> Sample:
        """The metadata and all pictures of a sample; `CorpusError` if it is damaged."""
        place = number % self.total
        position = int(np.searchsorted(self.ends, place, side="right"))
        shard, index = self.shards[position], self.indexes[position]
        inside = place - int(self.ends[position]) + shard.samples
        start, end = index.offsets[inside : inside + 2]
        with reporting_damage(self.corpus, shard):
            raw = read_one(
                self.read_bytes(shard, start, end), shard.indices[inside], shard, self.form
            )
            return decode_sample(raw, shard, self.form)

    def index(self, shard: ShardRecord) -> ShardIndex:
        """Where the samples of a shard are; `CorpusError` if it is damaged."""
        with reporting_damage(self.corpus, shard):
            return find_index(self.corpus, shard, self.form)

    def describe(self) -> dict[str, Any]:
        """What is read, to distinguish it from others: where it lies, how much, and its bytes."""
        checksums = "\n".join(shard.sha256 for shard in self.shards)
        return {
            PLACE: public_name(self.corpus),
            "kind": self.form.kind,
            "samples": self.total,
            "strengths": sorted({shard.strength for shard in self.shards}),
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        }

    def read_bytes(self, shard: ShardRecord, start: int, end: int) -> bytes:
        """A part of a shard."""
        # A file that is open, and a connection, belong to the process that opened them.
        if self.process != os.getpid():
            self.corpus, self.process = location(str(self.corpus)), os.getpid()
        return read_range(self.corpus / shard.path, start, end)
