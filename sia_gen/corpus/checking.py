"""Checks one shard: its bytes, its samples, their images and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.index import index_name, stored_index
from sia_gen.corpus.members import RawSample, check_area, decode_member, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import OTHER_CHECKSUM, HashingReader, reporting_damage
from sia_gen.corpus.schema import MASK, SampleForm
from sia_gen.corpus.shards import ShardIndex
from sia_gen.errors import first_line
from sia_gen.io.locations import Location

NOT_MADE = "not made yet"
OTHER_INDEX = "not the index of its shard"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a corpus.

    Attributes:
        path: The shard, or another file in its place, below the corpus.
        text: What is wrong, and where possible with which sample.
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def check_shard(
    corpus: Location, manifest: dict[str, Any], shard: dict[str, Any]
) -> Iterator[Problem]:
    """The problems of one shard and of its index; it is read once, from start to end.

    Raises:
        CorpusError: If it cannot be read, which says nothing of the shard.
    """
    path = corpus / shard["path"]
    if not path.is_file():
        yield Problem(shard["path"], "missing" if shard["state"] == COMPLETE else NOT_MADE)
        return
    if shard["state"] != COMPLETE:
        yield Problem(shard["path"], "never finished, or of another size than recorded")
        return
    record, form = record_of(shard), SampleForm.of(manifest)
    found = ShardIndex(record.sha256, [0], [])
    problems = list(check_bytes(corpus, record, form, found))
    yield from (Problem(record.path, text) for text in problems)
    indexed = (corpus / index_name(record)).is_file()
    if not problems and indexed and stored_index(corpus, record, form) != found:
        yield Problem(index_name(record), OTHER_INDEX)


def check_bytes(
    corpus: Location, shard: ShardRecord, form: SampleForm, found: ShardIndex
) -> Iterator[str]:
    """The problems of the file of a shard, and of the samples in it; see `check_samples`."""
    path = corpus / shard.path
    size = path.stat().st_size
    if size != shard.bytes:
        yield f"{size} bytes, {shard.bytes} in the manifest"
    with reporting_damage(corpus, shard), path.open("rb") as file:
        hashing = HashingReader(file)
        problems = list(check_samples(cast("IO[bytes]", hashing), shard, form, found))
        if hashing.finish() != shard.sha256 and size == shard.bytes:
            yield OTHER_CHECKSUM
    yield from problems


def check_samples(
    stream: IO[bytes], shard: ShardRecord, form: SampleForm, found: ShardIndex
) -> Iterator[str]:
    """The problems of the samples in a shard: order, count, members, images, metadata.

    Where they are is added to `found`.
    """
    try:
        for raw in read_samples(stream, shard, form):
            found.offsets.append(raw.end)
            yield from check_sample(raw, shard, form, found)
    except ValueError as error:
        yield first_line(error)


def check_sample(
    raw: RawSample, shard: ShardRecord, form: SampleForm, found: ShardIndex
) -> Iterator[str]:
    """The problems of one sample, member by member."""
    decoded: dict[str, Any] = {}
    for extension in form.members:
        try:
            decoded[extension] = decode_member(raw, extension, shard, form)
        except ValueError as error:
            yield first_line(error)
    if len(decoded) == len(form.members) and MASK in decoded:
        found.mask_areas.append(decoded["json"]["mask_area"])
        try:
            check_area(decoded, shard.key(raw.index))
        except ValueError as error:
            yield first_line(error)
