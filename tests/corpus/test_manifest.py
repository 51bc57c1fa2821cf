"""The manifest: the plan, joined with what is on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sia_gen.corpus.manifest import (
    MANIFEST,
    check_same_corpus,
    read_manifest,
    read_record,
    record_path,
    write_manifest,
)
from sia_gen.errors import CorpusError, OutputError
from sia_gen.files import sha256

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus


def test_manifest_describes_every_shard(corpus: HandmadeCorpus) -> None:
    manifest = read_manifest(corpus.folder)
    assert {name: manifest[name] for name in corpus.header} == corpus.header
    for entry, shard in zip(manifest["shards"], corpus.plan, strict=True):
        path = corpus.folder / shard.path
        assert entry == {
            "path": shard.path,
            "category": "disc",
            "first": shard.first,
            "samples": shard.samples,
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "model": "0" * 64,
            "state": "complete",
        }


def test_shard_not_made_yet_is_planned(corpus: HandmadeCorpus) -> None:
    record_path(corpus.folder, corpus.plan[1]).unlink()
    first, second = write_manifest(corpus.folder, corpus.header, corpus.plan)["shards"]
    assert first["state"] == "complete"
    assert second == {
        "path": corpus.plan[1].path,
        "category": "disc",
        "first": 3,
        "samples": 2,
        "state": "missing",
    }


def test_written_manifest_is_the_one_read(corpus: HandmadeCorpus) -> None:
    written = write_manifest(corpus.folder, corpus.header, corpus.plan)
    assert read_manifest(corpus.folder) == written


def test_record_counts_only_while_its_shard_is_whole(corpus: HandmadeCorpus) -> None:
    shard = corpus.plan[0]
    assert read_record(corpus.folder, shard) is not None
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content[:-512])
    assert read_record(corpus.folder, shard) is None
    corpus.path(0).unlink()
    assert read_record(corpus.folder, shard) is None


def test_shard_without_a_record_does_not_count(corpus: HandmadeCorpus) -> None:
    record_path(corpus.folder, corpus.plan[0]).unlink()
    assert read_record(corpus.folder, corpus.plan[0]) is None


def test_records_of_all_shards_have_their_own_file(corpus: HandmadeCorpus) -> None:
    records = {record_path(corpus.folder, shard) for shard in corpus.plan}
    assert set((corpus.folder / ".records").iterdir()) == records


def test_folder_without_a_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"is not a corpus: it has no manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"shards": 3}',
        '{"shards": ["x"]}',
        '{"shards": [{}]}',
        '{"shards": [{"path": 3}]}',
        '{"shards": {"path": "x"}}',
        b"\xff",
    ],
)
def test_damaged_manifest_is_named(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_new_folder_and_same_corpus_are_accepted(corpus: HandmadeCorpus, tmp_path: Path) -> None:
    check_same_corpus(tmp_path / "new", corpus.header)
    check_same_corpus(corpus.folder, corpus.header)
    check_same_corpus(corpus.folder, corpus.header | {"recipe": "2" * 64, "sia_gen": "0.2.0"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "cells"),
        ("seed", 1),
        ("images", 6),
        ("strength", "0.3"),
        ("steps", 3),
        ("sampler", "DDIMScheduler"),
        ("batch_size", 3),
        ("precision", "bf16"),
        ("shard_size", 2),
        ("format", "webp"),
        ("mode", "RGB"),
        ("image_size", 16),
    ],
)
def test_what_changes_a_sample_makes_another_corpus(
    corpus: HandmadeCorpus, field: str, value: Any
) -> None:
    before = (corpus.folder / MANIFEST).read_bytes()
    with pytest.raises(OutputError, match=f"already holds a corpus with another {field} .*{value}"):
        check_same_corpus(corpus.folder, corpus.header | {field: value})
    assert (corpus.folder / MANIFEST).read_bytes() == before


def test_manifest_is_json_for_people(corpus: HandmadeCorpus) -> None:
    text = (corpus.folder / MANIFEST).read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
