"""Shards: WebDataset tar files whose bytes depend on the samples alone, written whole or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import webdataset
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from sia_gen.files import atomic_path

# Fixed owner, mode and time: the same samples give the same bytes.
TAR_OPTIONS = {"encoder": False, "mtime": 0, "user": "sia-gen", "group": "sia-gen", "mode": 0o644}

ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpg": {"format": "JPEG", "quality": 95},
}


@dataclass(frozen=True)
class SampleMetadata:
    """The `json` member of a sample. Every sample has every field, always of the same type."""

    key: str
    dataset: str
    category: str
    index: int
    strength: float
    seed: int
    steps: int
    sampler: str
    guidance_scale: float
    model: str
    width: int
    height: int
    sia_gen: str


def write_shard(
    path: Path, samples: Iterable[tuple[SampleMetadata, Image.Image]], image_format: str
) -> int:
    """Writes a shard under a temporary name, syncs it and renames it.

    Args:
        path: The tar file.
        samples: In the order of their index.
        image_format: A key of `ENCODINGS`, the extension of the image member.

    Returns:
        The number of samples written.
    """
    count = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        webdataset.TarWriter(file, **TAR_OPTIONS) as writer,
    ):
        for metadata, image in samples:
            writer.write(
                {
                    "__key__": metadata.key,
                    image_format: encode(image, image_format),
                    "json": json.dumps(asdict(metadata), allow_nan=False).encode(),
                }
            )
            count += 1
    return count


def encode(image: Image.Image, image_format: str) -> bytes:
    """The bytes of an image file; png and webp are lossless, jpg has quality 95."""
    buffer = BytesIO()
    image.save(buffer, **ENCODINGS[image_format])
    return buffer.getvalue()


def read_shards(paths: Iterable[str | Path]) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """Streams the samples of shards as (metadata, decoded image), one after another.

    Raises:
        ValueError: If a sample lacks its image or its metadata.
    """
    for path in paths:
        # Opened here: webdataset would take the path for a URL or a command, and leave it open.
        with Path(path).open("rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                extension = next((name for name in ENCODINGS if name in sample), None)
                if extension is None or "json" not in sample:
                    msg = f"sample {sample['__key__']} lacks a member"
                    raise ValueError(msg)
                image = Image.open(BytesIO(sample[extension]))
                image.load()
                yield json.loads(sample["json"]), image
