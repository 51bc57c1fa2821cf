"""Verifies a corpus: re-reads every shard and holds it against the manifest."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import fields
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from sia_gen.corpus.manifest import COMPLETE, read_manifest
from sia_gen.corpus.shards import SampleMetadata
from sia_gen.errors import CorpusError
from sia_gen.files import sha256
from sia_gen.progress import Progress

JSON_TYPES = {"str": str, "int": int, "float": float}


def verify(corpus: Path) -> str:
    """Checks a corpus.

    Returns:
        One line that says how many samples are well.

    Raises:
        CorpusError: If there is a problem; every one of them is printed.
    """
    problems = find_problems(corpus)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CorpusError(
            problem=f"{corpus} is not intact: {problems[0]}{more}.",
            fix="Delete the shards named and run 'sia-gen synthesize' again: it makes them anew.",
        )
    shards = read_manifest(corpus)["shards"]
    samples = sum(shard["samples"] for shard in shards)
    return f"{corpus} is intact: {samples} samples in {len(shards)} shards."


def find_problems(corpus: Path) -> list[str]:
    """One line per problem of a corpus, naming the shard and where possible the sample."""
    manifest = read_manifest(corpus)
    shards = manifest["shards"]
    problems: list[str] = []
    with Progress(f"verifying {corpus}", len(shards)) as progress:
        for shard in shards:
            problems += [
                f"{shard['path']}: {line}" for line in check_shard(corpus, manifest, shard)
            ]
            progress.advance()
    return problems


def check_shard(corpus: Path, manifest: dict[str, Any], shard: dict[str, Any]) -> Iterator[str]:
    """The problems of one shard, cheapest checks first."""
    relative = PurePosixPath(shard["path"])
    if relative.is_absolute() or ".." in relative.parts:
        yield "path leads out of the corpus"
        return
    path = corpus / relative
    if shard.get("state") != COMPLETE:
        yield "not made yet"
        return
    if not path.is_file():
        yield "missing"
        return
    if path.stat().st_size != shard["bytes"]:
        yield f"{path.stat().st_size} bytes, {shard['bytes']} in the manifest"
    elif sha256(path) != shard["sha256"]:
        yield "checksum differs from the manifest"
    yield from check_samples(path, manifest, shard)


def check_samples(path: Path, manifest: dict[str, Any], shard: dict[str, Any]) -> Iterator[str]:
    """The problems of the samples in a shard: order, count, members, images, metadata."""
    expected = [
        f"{manifest['dataset']}_{shard['category']}_{shard['first'] + offset:08d}"
        for offset in range(shard["samples"])
    ]
    members = (manifest["format"], "json")
    names = [f"{key}.{member}" for key in expected for member in sorted(members)]
    found = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if found == len(names) or member.name != names[found] or not member.isfile():
                    yield f"{member.name}: not expected here"
                    return
                file = tar.extractfile(member)
                content = file.read() if file else b""
                check = check_metadata if member.name.endswith(".json") else check_image
                yield from (f"{member.name}: {line}" for line in check(content, manifest, shard))
                found += 1
    except (tarfile.TarError, OSError, EOFError) as error:
        yield f"cannot be read as a tar file ({error})"
        return
    if found < len(names):
        yield f"ends before {names[found]}"


def check_image(content: bytes, manifest: dict[str, Any], shard: dict[str, Any]) -> Iterator[str]:
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
    if image.mode != manifest["mode"] and manifest["format"] != "webp":
        yield f"mode {image.mode}, not {manifest['mode']}"


def check_metadata(
    content: bytes, manifest: dict[str, Any], shard: dict[str, Any]
) -> Iterator[str]:
    """The problems of a `json` member: the schema never varies."""
    try:
        metadata = json.loads(content)
    except ValueError as error:
        yield f"not JSON ({error})"
        return
    schema = {field.name: JSON_TYPES[str(field.type)] for field in fields(SampleMetadata)}
    if not isinstance(metadata, dict) or metadata.keys() != schema.keys():
        yield f"its fields are not {', '.join(schema)}"
        return
    for name, kind in schema.items():
        if type(metadata[name]) is not kind:
            yield f"'{name}' is {metadata[name]!r}, not a {kind.__name__}"
    if metadata["model"] != shard.get("model"):
        yield "'model' is not the one in the manifest"
