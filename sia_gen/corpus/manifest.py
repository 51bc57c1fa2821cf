"""The manifest: what a corpus consists of, and which of its shards are there.

    CORPUS/
        manifest.json                       this file, for readers
        .records/                           one record per finished shard, written by its process
        data/<dataset>/<category>/...tar

A process records a shard once it is on the disk under its final name. The manifest is the plan
joined with the records, so it can be written again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.corpus.plan import ShardPlan
from sia_gen.errors import CorpusError, OutputError
from sia_gen.files import sha256, write_json

MANIFEST = "manifest.json"
COMPLETE, MISSING = "complete", "missing"
# Neither changes a sample: the recipe's other sections, and the version that wrote the manifest.
MAY_DIFFER = {"recipe", "sia_gen"}


@dataclass(frozen=True)
class CorpusHeader:
    """What all shards of a corpus have in common; besides the models."""

    sia_gen: str
    recipe: str
    dataset: str
    seed: int
    images: int
    strength: str
    steps: int
    sampler: str
    guidance_scale: float
    batch_size: int
    precision: str
    shard_size: int
    format: str
    mode: str
    image_size: int


def record_path(corpus: Path, shard: ShardPlan) -> Path:
    """Where the record of a shard stands."""
    return corpus / ".records" / (shard.path.replace("/", "--") + ".json")


def write_record(corpus: Path, shard: ShardPlan, model: str) -> None:
    """Records a shard that is on the disk, with its size and checksum."""
    file = corpus / shard.path
    write_json(
        record_path(corpus, shard),
        {
            "samples": shard.samples,
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
            "model": model,
        },
    )


def read_record(corpus: Path, shard: ShardPlan) -> dict[str, Any] | None:
    """The record of a shard, or None if the shard is not there or not of the recorded size."""
    file, record = corpus / shard.path, record_path(corpus, shard)
    if not file.is_file() or not record.is_file():
        return None
    content: dict[str, Any] = json.loads(record.read_text())
    return content if content["bytes"] == file.stat().st_size else None


def write_manifest(
    corpus: Path, header: dict[str, Any], shards: Sequence[ShardPlan]
) -> dict[str, Any]:
    """Joins the plan with the records and writes the manifest; returns it."""
    entries = []
    for shard in shards:
        record = read_record(corpus, shard)
        state = {"state": COMPLETE if record else MISSING}
        entries.append({"path": shard.path, "category": shard.category, "first": shard.first})
        entries[-1] |= (record or {"samples": shard.samples}) | state
    manifest = header | {"shards": entries}
    write_json(corpus / MANIFEST, manifest)
    return manifest


def read_manifest(corpus: Path) -> dict[str, Any]:
    """Reads a corpus's manifest.

    Raises:
        CorpusError: If the folder is not a corpus or its manifest cannot be read.
    """
    path = corpus / MANIFEST
    if not path.is_file():
        raise CorpusError(
            problem=f"{corpus} is not a corpus: it has no {MANIFEST}.",
            fix="Make one with 'sia-gen synthesize', or give its folder.",
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(shard["path"], str) for shard in manifest["shards"]):
            msg = "a shard has no path"
            raise TypeError(msg)
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            problem=f"{path} cannot be read ({error}).",
            fix="Run 'sia-gen synthesize' again to rewrite it.",
        ) from error
    return dict(manifest)


def check_same_corpus(corpus: Path, header: dict[str, Any]) -> None:
    """Refuses to mix two corpora in one folder.

    Raises:
        OutputError: If the folder holds a corpus with another header.
    """
    if not (corpus / MANIFEST).is_file():
        return
    existing = read_manifest(corpus)
    for field, value in header.items():
        if field not in MAY_DIFFER and existing.get(field) != value:
            raise OutputError(
                problem=f"{corpus} already holds a corpus with another {field} "
                f"({existing.get(field)}, not {value}).",
                fix="Choose another folder with --out, or delete it.",
            )
