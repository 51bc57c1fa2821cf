"""Reads a corpus back: any sample of a category, or all samples of a shard as a stream."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import pairwise
from typing import IO, Any

import numpy as np
from PIL import Image

from sia_gen.corpus.manifest import Manifest, read_corpus
from sia_gen.corpus.parsing import Sample, ShardParser
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import MASK, TRIPLETS, SampleForm
from sia_gen.corpus.shards import ShardIndex, index_name
from sia_gen.errors import CorpusError, first_line
from sia_gen.io.files import PLACE, Location, location, public_name, read_json, read_range

OTHER_CHECKSUM = "checksum differs from the manifest"
# Indexes are small files: over a network most of the time is waiting.
THREADS = 8
# Bytes of an index, and for each sample in it, that none of ours exceeds.
LARGEST_INDEX, LARGEST_OFFSET = 256, 64


def read_synthetic(corpus: Location) -> Manifest:
    """Reads the manifest of a corpus of synthetic images; `CorpusError` if it holds triplets."""
    manifest = read_corpus(corpus)
    if manifest.kind == TRIPLETS:
        raise CorpusError(
            problem=f"{corpus} holds triplets, not synthetic images.",
            fix="Give a corpus that 'sia-gen synthesize' made.",
        )
    return manifest


def require_category(corpus: Location, manifest: Manifest, name: str) -> list[ShardRecord]:
    """Returns the shards of the category `<dataset>.<category>`, all of them in full size."""
    shards = [shard for shard in manifest.shards if shard.name == name]
    if not shards:
        category = name.partition(".")[2]
        fix = f"Make it with 'sia-gen synthesize --category {category}'."
        others = {f"'{one.name}'" for one in manifest.shards if one.category == category}
        if others:
            names = ", ".join(sorted(others))
            fix = f"It has {names}: give the recipe of that data set, or {fix[0].lower()}{fix[1:]}"
        raise CorpusError(problem=f"the corpus {corpus} has no category '{name}'.", fix=fix)
    records = []
    for shard in shards:
        path = corpus / shard.path
        if not isinstance(shard, ShardRecord) or not path.is_file():
            raise CorpusError(
                problem=f"the shard {path} is missing.",
                fix="Run 'sia-gen synthesize' again: it makes the missing shards.",
            )
        if path.stat().st_size != shard.bytes:
            raise _damaged(path, f"it has {path.stat().st_size} bytes, not {shard.bytes}")
        records.append(shard)
    return records


def _damaged(path: Location, reason: str) -> CorpusError:
    return CorpusError(
        problem=f"the shard {path} is damaged ({reason}).",
        fix="Delete it with 'sia-gen verify --repair', then run 'sia-gen synthesize' again: it "
        "makes the missing shards.",
    )


@contextmanager
def reporting_damage(corpus: Location, shard: ShardRecord) -> Iterator[None]:
    """Turns the errors of a shard that is damaged or out of reach into one that names it."""
    try:
        yield
    except OSError as error:
        # A shard that is far away, or may not be read, can still be whole.
        raise CorpusError(
            problem=f"cannot read the shard {corpus / shard.path} ({first_line(error)}).",
            fix="Check the connection or the disk, then run the same command again.",
        ) from error
    except ValueError as error:
        raise _damaged(corpus / shard.path, first_line(error)) from error


def read_whole(corpus: Location, shard: ShardRecord, form: SampleForm) -> Iterator[Sample]:
    """Streams the samples of a shard, decoded; raises `CorpusError` if it is damaged.

    The last sample comes only once the checksum of the shard was found to be right.
    """
    parser = ShardParser(shard, form)
    with reporting_damage(corpus, shard), (corpus / shard.path).open("rb") as file:
        hashing = HashingReader(file)
        held_back: list[Sample] = []
        for raw in parser.samples(hashing):
            yield from held_back
            held_back = [parser.decode(raw)]
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
        """Reads the rest, and returns the SHA-256 of the whole file, hexadecimal."""
        while self.read(1 << 20):
            pass
        return self.sha256.hexdigest()


def stored_index(corpus: Location, shard: ShardRecord, form: SampleForm) -> ShardIndex | None:
    """Reads the index beside a shard; None if there is none, or it belongs to other bytes."""
    try:
        largest = LARGEST_INDEX + LARGEST_OFFSET * (shard.samples + 1)
        index = ShardIndex.parse(read_json(corpus / index_name(shard), largest))
    except (FileNotFoundError, ValueError):
        return None
    # Whether the offsets are right turns out when samples are read.
    sizes = [end - start for start, end in pairwise(index.offsets)]
    largest = ShardParser(shard, form).largest_sample
    fits = (
        index.sha256 == shard.sha256
        and index.offsets[:1] == [0]
        and index.offsets[-1] <= shard.bytes
        and len(sizes) == shard.samples
        and all(0 < size <= largest for size in sizes)
        and len(index.mask_areas) == (shard.samples if MASK in form.members else 0)
    )
    return index if fits else None


def find_index(corpus: Location, shard: ShardRecord, form: SampleForm) -> ShardIndex:
    """Returns the stored index of a shard, or else finds it by reading the whole shard."""
    with reporting_damage(corpus, shard):
        stored = stored_index(corpus, shard, form)
        if stored is not None:
            return stored
        parser, offsets, mask_areas = ShardParser(shard, form), [0], list[float]()
        with (corpus / shard.path).open("rb") as file:
            for raw in parser.samples(file):
                offsets.append(raw.end)
                if MASK in form.members:
                    mask_areas.append(parser.decode_metadata(raw)["mask_area"])
        found = {"sha256": shard.sha256, "offsets": offsets, "mask_areas": mask_areas}
        return ShardIndex.parse(found)


class SampleReader:
    """The samples of a category by number, read one by one; after the last comes the first again.

    Any process can read samples in any order, and reads only the bytes of those samples. Only
    `verify` checks that a shard still has the bytes it was written with.
    """

    def __init__(self, corpus: Location, dataset: str, category: str) -> None:
        self.corpus = corpus
        self.name = f"{dataset}.{category}"
        manifest = read_synthetic(corpus)
        self.form = manifest.form
        self.shards = require_category(corpus, manifest, self.name)
        with ThreadPoolExecutor(THREADS) as threads:
            found = threads.map(partial(find_index, corpus, form=manifest.form), self.shards)
            self.indexes = list(found)
        self.ends = np.cumsum([shard.samples for shard in self.shards])
        self.total = int(self.ends[-1])
        # Share of the pixels that each mask covers, (total,); empty without masks.
        self.mask_areas = np.array([area for index in self.indexes for area in index.mask_areas])
        self.process = os.getpid()

    def __str__(self) -> str:
        return f"'{self.name}' in {self.corpus}"

    def __getitem__(self, number: int) -> tuple[dict[str, Any], Image.Image]:
        """Reads the metadata and the picture of a sample; raises `CorpusError` if it is damaged."""
        metadata, images = self.read(number)
        return metadata, images[self.form.picture]

    def read(self, number: int) -> Sample:
        """Reads metadata and all pictures of a sample; raises `CorpusError` if it is damaged."""
        # An open file or connection belongs to the process that opened it.
        if self.process != os.getpid():
            self.corpus, self.process = location(str(self.corpus)), os.getpid()
        place = number % self.total
        position = int(np.searchsorted(self.ends, place, side="right"))
        shard = self.shards[position]
        inside = place - int(self.ends[position]) + shard.samples
        start, end = self.indexes[position].offsets[inside : inside + 2]
        parser = ShardParser(shard, self.form)
        with reporting_damage(self.corpus, shard):
            content = read_range(self.corpus / shard.path, start, end)
            index = shard.indices[inside : inside + 1]
            return parser.decode(next(parser.samples(BytesIO(content), index)))

    def describe(self) -> dict[str, Any]:
        """Describes what is read, to distinguish it: its place, its number and its bytes."""
        checksums = "\n".join(shard.sha256 for shard in self.shards)
        return {
            PLACE: public_name(self.corpus),
            "kind": self.form.kind,
            "samples": self.total,
            "strengths": sorted({shard.anomalies for shard in self.shards}),
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        }
