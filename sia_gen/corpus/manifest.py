"""The manifest: what a corpus consists of, and which of its shards are there.

    CORPUS/
        manifest.json                       this file, for readers
        .records/                           one record per finished shard, written by its process,
                                            and the hashes of the models
        data/<dataset>/<category>/...tar

A process records a shard once it is on the disk under its final name. The manifest is the plan
joined with the records, so it can be written again at any time, by any process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sia_gen.corpus.entries import (
    COMPLETE,
    MISSING,
    VERSION,
    check_manifest,
    plan_of,
    record_of,
    version_of,
)
from sia_gen.corpus.index import write_index
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.shards import ShardFile
from sia_gen.errors import CorpusError, OutputError, first_line
from sia_gen.io.files import write_json
from sia_gen.io.json import read_json
from sia_gen.io.locations import Location, files_below
from sia_gen.io.locks import settling
from sia_gen.io.refusals import reading

MANIFEST = "manifest.json"
RECORDS = ".records"
HASHES = ".records/weights.json"
# What changes no sample: the recipe's other sections, and the versions that wrote the manifest.
MAY_DIFFER = {"recipe", "sia_gen", "versions"}
# What older manifests do not tell, and what is known of it.
UNTOLD = {"compiled": False, "channels_last": None}
ADDRESS = "Check the address, and whether you have to log in: 'hf auth login' for hf://."


def record_path(corpus: Location, shard: ShardPlan) -> Location:
    """Where the record of a shard stands."""
    return corpus / RECORDS / (shard.path.replace("/", "--") + ".json")


def write_record(corpus: Location, shard: ShardPlan, file: ShardFile, model: str) -> None:
    """Records a shard that is there under its final name, once its index is there too."""
    write_index(corpus, shard, file.index)
    known = {"bytes": file.bytes, "sha256": file.sha256, "model": model}
    write_json(record_path(corpus, shard), asdict(shard) | known)


def manifest_entries(corpus: Location) -> list[dict[str, Any]]:
    """What a manifest says of each shard; nothing if there is none yet."""
    return list(read_manifest(corpus)["shards"]) if (corpus / MANIFEST).is_file() else []


def read_records(corpus: Location, entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records of all shards that were made, by path.

    Args:
        corpus: Where their files are.
        entries: Those of the manifest, which is all there is of a corpus that was downloaded.
    """
    records = [entry for entry in entries if entry["state"] == COMPLETE]
    for name in files_below(corpus / RECORDS, "data--*.json"):
        # A damaged record is none: its shard is made again.
        with contextlib.suppress(ValueError, FileNotFoundError):
            record = read_json(corpus / RECORDS / name)
            record_of(record)
            records.append(record)
    return {record["path"]: record for record in records}


def present_records(corpus: Location) -> dict[str, dict[str, Any]]:
    """The records of the shards that are there, by path."""
    return only_present(corpus, read_records(corpus, manifest_entries(corpus)))


def only_present(corpus: Location, records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of some records whose shards are there, by path."""
    return {path: record for path, record in records.items() if is_there(corpus, record)}


def is_there(corpus: Location, record: dict[str, Any]) -> bool:
    """Whether the shard of a record is there, in its full size."""
    file = corpus / record["path"]
    with reading(file):
        return file.is_file() and bool(file.stat().st_size == record["bytes"])


def write_manifest(
    corpus: Location,
    header: dict[str, Any],
    plan: Sequence[ShardPlan],
    records: dict[str, dict[str, Any]],
) -> None:
    """Writes the plan, joined with the records of what is there."""
    write_json(corpus / MANIFEST, header | {"shards": joined(plan, records)})


def settle_manifest(corpus: Location) -> None:
    """Writes the manifest anew if it does not tell what is there."""
    # What is right needs no lock, and a corpus that was downloaded gets none.
    manifest = read_manifest(corpus)
    if settled(corpus, manifest) != manifest:
        # What others write between reading and writing would be lost.
        with settling(corpus):
            write_json(corpus / MANIFEST, settled(corpus, read_manifest(corpus)))


def settled(corpus: Location, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest as it should be."""
    records = read_records(corpus, manifest["shards"])
    plan = known_shards(manifest["shards"], records)
    return manifest | {"shards": joined(plan, only_present(corpus, records))}


def joined(plan: Sequence[ShardPlan], records: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the manifest says of each shard."""
    return [
        (records.get(shard.path) or asdict(shard))
        | {"state": COMPLETE if shard.path in records else MISSING}
        for shard in plan
    ]


def read_corpus(corpus: Location) -> dict[str, Any]:
    """The manifest, with the records of all who worked on the corpus since.

    Raises:
        CorpusError: If the manifest cannot be read.
    """
    manifest = read_manifest(corpus)
    records = read_records(corpus, manifest["shards"])
    return manifest | {"shards": joined(known_shards(manifest["shards"], records), records)}


def known_shards(
    entries: Sequence[dict[str, Any]], records: dict[str, dict[str, Any]]
) -> list[ShardPlan]:
    """The shards a corpus has or shall have, by the entries of its manifest and by its records."""
    shards = [plan_of(entry) for entry in [*entries, *records.values()]]
    return list({shard.path: shard for shard in shards}.values())


def read_manifest(corpus: Location) -> dict[str, Any]:
    """Reads a corpus's manifest.

    Raises:
        CorpusError: If the folder is not a corpus or its manifest cannot be read.
    """
    path = corpus / MANIFEST
    try:
        # Not asked for first: some stores say no when they mean that they cannot tell.
        manifest = read_json(path)
        version = version_of(manifest)
        if version == VERSION:
            check_manifest(manifest)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CorpusError(
            problem=f"{corpus} is not a corpus: it has no {MANIFEST}.",
            fix="Make one with 'sia-gen synthesize', or give its folder."
            if isinstance(corpus, Path)
            else ADDRESS,
        ) from error
    except ValueError as error:
        raise CorpusError(
            problem=f"{path} cannot be read ({first_line(error)}).",
            fix="Delete it and run 'sia-gen synthesize' again: finished shards are kept."
            if isinstance(corpus, Path)
            else ADDRESS,
        ) from error
    if version != VERSION:
        raise CorpusError(
            problem=f"{path} is of version {version}; this sia-gen reads version {VERSION}.",
            fix="Update sia-gen.",
        )
    return dict(manifest)


def check_same_corpus(corpus: Location, header: dict[str, Any]) -> None:
    """Refuses to mix two corpora in one folder.

    Raises:
        OutputError: If the folder holds a corpus with another header.
    """
    if not (corpus / MANIFEST).is_file():
        return
    difference = first_difference(read_manifest(corpus), header)
    if difference is not None:
        raise OutputError(
            problem=f"{corpus} already holds a corpus with another {difference}.",
            fix="Choose another folder with --out, or delete it.",
        )


def first_difference(existing: dict[str, Any], header: dict[str, Any]) -> str | None:
    """What makes a manifest that of another corpus, as "seed (0, not 1)"; None if nothing does."""
    for field, value in header.items():
        there = {**UNTOLD, **existing}.get(field)
        unknown = field in UNTOLD and None in (there, value)
        if field not in MAY_DIFFER and not unknown and there != value:
            return f"{field} ({there}, not {value})"
    return None
