"""Checks one shard: its bytes, its samples, their images and metadata."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any

from PIL import Image

from sia_gen.corpus.manifest import COMPLETE, plan_of
from sia_gen.corpus.schema import image_members, json_schema
from sia_gen.locations import Location

NOT_MADE = "not made yet"


def check_shard(corpus: Location, manifest: dict[str, Any], shard: dict[str, Any]) -> Iterator[str]:
    """The problems of one shard; it is read once, from start to end."""
    path = corpus / shard["path"]
    if not path.is_file():
        yield "missing" if shard["state"] == COMPLETE else NOT_MADE
        return
    if shard["state"] != COMPLETE:
        yield "never finished, or of another size than recorded"
        return
    if path.stat().st_size != shard["bytes"]:
        yield f"{path.stat().st_size} bytes, {shard['bytes']} in the manifest"
    with path.open("rb") as file:
        hashing = HashingReader(file)
        problems = list(check_samples(hashing, manifest, shard))
        whole = path.stat().st_size == shard["bytes"]
        if hashing.finish() != shard["sha256"] and whole:
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


def check_samples(
    source: HashingReader, manifest: dict[str, Any], shard: dict[str, Any]
) -> Iterator[str]:
    """The problems of the samples in a shard: order, count, members, images, metadata."""
    images = image_members(manifest["kind"], manifest["format"], manifest["mode"])
    names = [
        f"{shard['dataset']}_{shard['category']}_{index:08d}.{member}"
        for index in plan_of(shard).indices
        for member in sorted([*images, "json"])
    ]
    found = 0
    stream: Any = source
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if found == len(names) or member.name != names[found] or not member.isfile():
                    yield f"{member.name}: not expected here"
                    return
                file = tar.extractfile(member)
                content = file.read() if file else b""
                extension = member.name.partition(".")[2]
                if extension == "json":
                    lines = check_metadata(content, manifest["kind"], shard)
                else:
                    lines = check_image(content, manifest, images[extension])
                yield from (f"{member.name}: {line}" for line in lines)
                found += 1
    except (tarfile.TarError, OSError, EOFError) as error:
        yield f"cannot be read as a tar file ({error})"
        return
    if found < len(names):
        yield f"ends before {names[found]}"


def check_image(content: bytes, manifest: dict[str, Any], mode: str) -> Iterator[str]:
    """The problems of an image member."""
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        yield f"not an image ({error})"
        return
    size = (manifest["image_size"], manifest["image_size"])
    if image.size != size:
        yield f"{image.width} x {image.height} pixels, not {size[0]} x {size[1]}"
    # WebP has no grey mode: grey samples come back as colour.
    if image.mode != mode and manifest["format"] != "webp":
        yield f"mode {image.mode}, not {mode}"


def check_metadata(content: bytes, kind: str, shard: dict[str, Any]) -> Iterator[str]:
    """The problems of a `json` member: the schema never varies."""
    try:
        metadata = json.loads(content)
    except ValueError as error:
        yield f"not JSON ({error})"
        return
    schema = json_schema(kind)
    if not isinstance(metadata, dict) or metadata.keys() != schema.keys():
        yield f"its fields are not {', '.join(schema)}"
        return
    for name, wanted in schema.items():
        if type(metadata[name]) is not wanted:
            yield f"'{name}' is {metadata[name]!r}, not a {wanted.__name__}"
    if metadata["model"] != shard.get("model"):
        yield "'model' is not the one in the manifest"
