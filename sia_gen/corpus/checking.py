"""Checks one shard: its bytes, its samples, their images and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, cast

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.index import index_name, stored_index
from sia_gen.corpus.members import RawSample, check_area, decode_member, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import OTHER_CHECKSUM, HashingReader, reporting_damage
from sia_gen.corpus.schema import MASK, SampleForm
from sia_gen.corpus.shards import ShardIndex
from sia_gen.errors import first_line
from sia_gen.locations import Location

NOT_MADE = "not made yet"
OTHER_INDEX = "its index does not fit it"


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
        found, form = ShardIndex(record.sha256, [0], []), SampleForm.of(manifest)
        problems = list(check_samples(stream, record, form, found))
        if hashing.finish() != record.sha256 and size == record.bytes:
            yield OTHER_CHECKSUM
    yield from problems
    indexed = (corpus / index_name(record)).is_file()
    if not problems and indexed and stored_index(corpus, record, form) != found:
        yield OTHER_INDEX


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
