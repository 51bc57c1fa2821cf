"""Shards: WebDataset tar files whose bytes depend on the samples alone, written whole or not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import webdataset
from PIL import Image

from sia_gen.corpus.schema import SampleMetadata
from sia_gen.files import atomic_path, sha256
from sia_gen.locations import Location

# Fixed owner, mode and time: the same samples give the same bytes.
TAR_OPTIONS = {"encoder": False, "mtime": 0, "user": "sia-gen", "group": "sia-gen", "mode": 0o644}

# The bytes of the members by extension, and the key as `__key__`.
Sample = dict[str, str | bytes]

ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpg": {"format": "JPEG", "quality": 95},
}


@dataclass(frozen=True)
class ShardFile:
    """What there is to know about a shard that was written."""

    bytes: int
    sha256: str


def write_shard(path: Location, samples: Iterable[Sample]) -> ShardFile:
    """Writes a shard, whole or not at all: it gets its name once it is on the disk.

    Args:
        path: The tar file.
        samples: In the order of their index.
    """
    with atomic_path(path) as temporary:
        with (
            temporary.open("wb") as file,
            webdataset.TarWriter(file, **TAR_OPTIONS) as writer,
        ):
            for sample in samples:
                writer.write(sample)
        written = ShardFile(temporary.stat().st_size, sha256(temporary))
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
