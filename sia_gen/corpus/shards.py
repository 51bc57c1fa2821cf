"""Shards: WebDataset tar files whose bytes depend on the samples alone, written whole or not.

CORPUS/data/<dataset>/<category>/
train-00000-of-0000K.tar
train-00000-of-0000K.index.json     see `ShardIndex`
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from io import BytesIO
from queue import Full, Queue
from typing import Annotated, Any, Self

import webdataset
from PIL import Image
from pydantic import Field

from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import MASK, StrictModel
from sia_gen.io.files import Location, atomic_path, sha256, write_text

# Fixed owner, mode and time: the same samples give the same bytes.
TAR_OPTIONS = {"encoder": False, "mtime": 0, "user": "sia-gen", "group": "sia-gen", "mode": 0o644}
ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpg": {"format": "JPEG", "quality": 95},
}
# Enough that sampling and writing do not wait for each other, few enough for any memory.
BATCHES_AHEAD = 8
ENCODERS = min(4, os.cpu_count() or 1)

# The bytes of the members by extension, and the key as `__key__`.
EncodedSample = dict[str, str | bytes]
EncodedBatch = Future[list[EncodedSample]]


class ShardIndex(StrictModel):
    """Where the samples of a shard are, so that each of them can be read separately."""

    sha256: str  # of the shard
    # The first byte of each sample, and the end of the last, ascending.
    offsets: list[Annotated[int, Field(ge=0)]]
    # Share of the pixels that each mask covers; empty if samples have no mask.
    mask_areas: list[Annotated[float, Field(ge=0, le=1)]]


def index_name(shard: ShardPlan) -> str:
    """Returns the path of a shard's index below its corpus."""
    return shard.path.removesuffix(".tar") + ".index.json"


def write_index(corpus: Location, shard: ShardPlan, index: ShardIndex) -> None:
    """Writes the index of a shard beside it."""
    write_text(corpus / index_name(shard), json.dumps(index.model_dump()) + "\n")


def write_shard(path: Location, samples: Iterable[EncodedSample]) -> ShardIndex:
    """Writes samples, in the order of their index, to a tar file: a whole one or none."""
    offsets, mask_areas = [0], list[float]()
    with atomic_path(path) as temporary:
        with (
            temporary.open("wb") as file,
            webdataset.TarWriter(file, **TAR_OPTIONS) as writer,
        ):
            for sample in samples:
                writer.write(sample)
                offsets.append(writer.tarstream.offset)
                if MASK in sample:
                    mask_areas.append(json.loads(sample["json"])["mask_area"])
        checksum = sha256(temporary)
    return ShardIndex(sha256=checksum, offsets=offsets, mask_areas=mask_areas)


def encode_sample(metadata: Any, images: dict[str, Image.Image]) -> EncodedSample:
    """Encodes a sample: its metadata, a dataclass, and its images by extension.

    The extension ends in a key of `ENCODINGS`, such as `png` or `mask.png`.
    """
    encoded = {name: encode(image, name.rpartition(".")[2]) for name, image in images.items()}
    content = json.dumps(asdict(metadata), allow_nan=False).encode()
    return {"__key__": metadata.key, **encoded, "json": content}


def encode(image: Image.Image, image_format: str) -> bytes:
    """Encodes an image; png and webp are lossless, jpg has quality 95."""
    buffer = BytesIO()
    image.save(buffer, **ENCODINGS[image_format])
    return buffer.getvalue()


class AbandonedError(Exception):
    """The samples of a shard ended before it was whole; it is not kept."""


class ShardWriter:
    """Writes shards behind the sampling, so that encoding and disk take no time from it.

    Several threads encode samples, and one writes them to shards in their order. Use it as a
    context manager: leaving it waits until all is written, or, on an error, drops the shard that
    is not whole. `put` and leaving raise the error of a thread. The writing thread calls `written`
    for every finished shard.
    """

    def __init__(self, corpus: Location, written: Callable[[ShardPlan, ShardIndex], None]) -> None:
        self.corpus = corpus
        self.written = written
        self.queue: Queue[tuple[ShardPlan, EncodedBatch] | None] = Queue(BATCHES_AHEAD)
        self.encoders = ThreadPoolExecutor(ENCODERS)
        self.writer = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self.writing = self.writer.submit(self._write)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._hand_over(None)
        self.encoders.shutdown()
        self.writer.shutdown()
        if kind is None:
            self.writing.result()

    def put(self, shard: ShardPlan, encode: Callable[[], list[EncodedSample]]) -> None:
        """Takes the next samples of a shard; waits if the writing is far behind.

        They follow those before, shard by shard; a thread calls `encode`.
        """
        self._hand_over((shard, self.encoders.submit(encode)))
        if self.writing.done():
            self.writing.result()

    def _hand_over(self, batch: tuple[ShardPlan, EncodedBatch] | None) -> None:
        """Queues a batch, or None for the end, unless the writing failed."""
        while not self.writing.done():
            with contextlib.suppress(Full):
                self.queue.put(batch, timeout=1)
                return

    def _write(self) -> None:
        while (batch := self.queue.get()) is not None:
            shard, first = batch
            index = write_shard(self.corpus / shard.path, self._samples(shard, first))
            self.written(shard, index)

    def _samples(self, shard: ShardPlan, first: EncodedBatch) -> Iterator[EncodedSample]:
        """Yields the samples of a shard from its first batch on."""
        samples = first.result()
        yield from samples
        count = len(samples)
        while count < shard.samples:
            batch = self.queue.get()
            if batch is None:
                raise AbandonedError
            samples = batch[1].result()
            yield from samples
            count += len(samples)
