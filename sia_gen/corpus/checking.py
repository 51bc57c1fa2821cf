"""Checks one shard: its bytes, its samples, their images and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, cast

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.members import RawSample, check_area, decode_member, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import OTHER_CHECKSUM, HashingReader, reporting_damage
from sia_gen.corpus.schema import SampleForm
from sia_gen.errors import first_line
from sia_gen.locations import Location

NOT_MADE = "not made yet"


def check_shard(corpus: Location, manifest: dict[str, Any], shard: dict[str, Any]) -> Iterator[str]:
    """The problems of one shard; it is read once, from start to end.

    Raises:
        CorpusError: If it cannot be read, which says nothing of the shard.
    """
    path = corpus / shard["path"]
    if not path.is_file():
        yield "missing" if shard["state"] == COMPLETE else NOT_MADE
        return
    if shard["state"] != COMPLETE:
        yield "never finished, or of another size than recorded"
        return
    record, size = record_of(shard), path.stat().st_size
    if size != record.bytes:
        yield f"{size} bytes, {record.bytes} in the manifest"
    with reporting_damage(corpus, record), path.open("rb") as file:
        hashing = HashingReader(file)
        stream = cast("IO[bytes]", hashing)
        problems = list(check_samples(stream, record, SampleForm.of(manifest)))
        if hashing.finish() != record.sha256 and size == record.bytes:
            yield OTHER_CHECKSUM
    yield from problems


def check_samples(stream: IO[bytes], shard: ShardRecord, form: SampleForm) -> Iterator[str]:
    """The problems of the samples in a shard: order, count, members, images, metadata."""
    try:
        for raw in read_samples(stream, shard, form):
            yield from check_sample(raw, shard, form)
    except ValueError as error:
        yield first_line(error)


def check_sample(raw: RawSample, shard: ShardRecord, form: SampleForm) -> Iterator[str]:
    """The problems of one sample, member by member."""
    decoded = {}
    for extension in form.members:
        try:
            decoded[extension] = decode_member(raw, extension, shard, form)
        except ValueError as error:
            yield first_line(error)
    if len(decoded) == len(form.members):
        try:
            check_area(decoded, shard.key(raw.index))
        except ValueError as error:
            yield first_line(error)
