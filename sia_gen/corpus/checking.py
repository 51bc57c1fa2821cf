"""Checks one shard: its bytes, its samples, their images and metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import IO, Any

from sia_gen.corpus.entries import COMPLETE, record_of
from sia_gen.corpus.members import decode_member, read_samples
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.reading import reporting_damage
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
        problems = list(check_samples(hashing, record, SampleForm.of(manifest)))
        if hashing.finish() != record.sha256 and size == record.bytes:
            yield "checksum differs from the manifest"
    yield from problems


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


def check_samples(source: HashingReader, shard: ShardRecord, form: SampleForm) -> Iterator[str]:
    """The problems of the samples in a shard: order, count, members, images, metadata."""
    stream: Any = source
    try:
        for raw in read_samples(stream, shard, form):
            for extension in form.members:
                try:
                    decode_member(raw, extension, shard, form)
                except ValueError as error:
                    yield first_line(error)
    except ValueError as error:
        yield first_line(error)
