"""Shards: WebDataset tar files whose bytes depend on the samples alone, written whole or not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import pairwise
from typing import Annotated, Any, Self

import pydantic.dataclasses
import webdataset
from PIL import Image
from pydantic import Field, model_validator

from sia_gen.corpus.schema import MASK, STRICT, SampleMetadata
from sia_gen.io.files import atomic_path, sha256
from sia_gen.io.locations import Location

# Fixed owner, mode and time: the same samples give the same bytes.
TAR_OPTIONS = {"encoder": False, "mtime": 0, "user": "sia-gen", "group": "sia-gen", "mode": 0o644}

# The bytes of the members by extension, and the key as `__key__`.
Sample = dict[str, str | bytes]

ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpg": {"format": "JPEG", "quality": 95},
}


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ShardIndex:
    """Where the samples of a shard are, so that any of them is read alone.

    Attributes:
        sha256: Of the shard.
        offsets: The first byte of each sample, and the end of the last, ascending.
        mask_areas: Share of the pixels that each mask covers; empty where samples have no mask.
    """

    sha256: str
    offsets: list[Annotated[int, Field(ge=0)]]
    mask_areas: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _offsets_ascend(self) -> Self:
        if any(first >= second for first, second in pairwise(self.offsets)):
            msg = "its offsets do not ascend"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class ShardFile:
    """What there is to know about a shard that was written."""

    bytes: int
    index: ShardIndex

    @property
    def sha256(self) -> str:
        """Of the file."""
        return self.index.sha256


def write_shard(path: Location, samples: Iterable[Sample]) -> ShardFile:
    """Writes a shard, whole or not at all: it gets its name once it is on the disk.

    Args:
        path: The tar file.
        samples: In the order of their index.
    """
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
        index = ShardIndex(sha256(temporary), offsets, mask_areas)
        written = ShardFile(temporary.stat().st_size, index)
    return written


def encode_sample(metadata: SampleMetadata, image: Image.Image, image_format: str) -> Sample:
    """The members of a sample; `image_format` is a key of `ENCODINGS`, the image's extension."""
    return encode_members(metadata.key, asdict(metadata), {image_format: image})


def encode_members(key: str, metadata: dict[str, Any], images: dict[str, Image.Image]) -> Sample:
    """The members of any sample; the images by their extension, such as `png` or `mask.png`."""
    encoded = {name: encode(image, name.rpartition(".")[2]) for name, image in images.items()}
    content = json.dumps(metadata, allow_nan=False).encode()
    return {"__key__": key, **encoded, "json": content}


def encode(image: Image.Image, image_format: str) -> bytes:
    """The bytes of an image file; png and webp are lossless, jpg has quality 95."""
    buffer = BytesIO()
    image.save(buffer, **ENCODINGS[image_format])
    return buffer.getvalue()
