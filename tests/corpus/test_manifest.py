"""The manifest: the plan, joined with what is on the disk."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sia_gen.corpus import manifest as manifests
from sia_gen.corpus.manifest import (
    MANIFEST,
    VERSION,
    Manifest,
    present_records,
    read_corpus,
    read_manifest,
    record_path,
    settle_manifest,
)
from sia_gen.errors import CorpusError
from sia_gen.io.files import sha256, write_json

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus

# Another process, which changes the seed.
WRITER = """
import json, sys
from pathlib import Path
from sia_gen.io.locks import settling
corpus = Path(sys.argv[1])
print("begun", flush=True)
with settling(corpus):
    manifest = json.loads((corpus / "manifest.json").read_text())
    (corpus / "manifest.json").write_text(json.dumps(manifest | {"seed": 9}))
"""


def test_manifest_describes_every_shard(corpus: HandmadeCorpus) -> None:
    manifest = read_manifest(corpus.folder)
    assert manifest == corpus.manifest
    content = json.loads((corpus.folder / MANIFEST).read_text())
    assert list(content) == list(Manifest.model_fields)
    for entry, shard in zip(content["shards"], corpus.plan, strict=True):
        path = corpus.folder / shard.path
        assert entry == {
            "path": shard.path,
            "dataset": "parts",
            "category": "disc",
            "first": shard.first,
            "strengths": {"white": "0.0:0.5"},
            "samples": shard.samples,
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "model": "0" * 64,
            "photographs": None,
            "state": "complete",
        }


def test_shard_that_is_gone_is_planned(corpus: HandmadeCorpus) -> None:
    corpus.path(1).unlink()
    settle_manifest(corpus.folder)
    first, second = json.loads((corpus.folder / MANIFEST).read_text())["shards"]
    assert first["state"] == "complete"
    assert second == {
        "path": corpus.plan[1].path,
        "dataset": "parts",
        "category": "disc",
        "first": 3,
        "samples": 2,
        "strengths": {"white": "0.0:0.5"},
        "state": "missing",
    }


def test_records_bring_an_old_manifest_up_to_date(corpus: HandmadeCorpus) -> None:
    whole = (corpus.folder / MANIFEST).read_bytes()
    manifest = json.loads(whole)
    for field in ("bytes", "sha256", "model"):
        del manifest["shards"][1][field]
    manifest["shards"][1]["state"] = "missing"
    # As another job wrote it, which made the first shard of the same category alone.
    for shards in (manifest["shards"], manifest["shards"][:1]):
        (corpus.folder / MANIFEST).write_text(json.dumps(manifest | {"shards": shards}))
        assert read_corpus(corpus.folder).to_json() == json.loads(whole)
        settle_manifest(corpus.folder)
        assert (corpus.folder / MANIFEST).read_bytes() == whole


def test_what_another_process_writes_meanwhile_is_kept(
    corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.path(1).unlink()
    command = [sys.executable, "-c", WRITER, str(corpus.folder)]
    writers: list[subprocess.Popen[str]] = []

    def interrupted(path: Path, content: Any) -> None:
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert writers[0].stdout.readline() == "begun\n"
        # It waits until this process is done with the manifest.
        with contextlib.suppress(subprocess.TimeoutExpired):
            writers[0].wait(0.5)
        write_json(path, content)

    monkeypatch.setattr(manifests, "write_json", interrupted)
    settle_manifest(corpus.folder)
    assert [writer.communicate() for writer in writers] == [("", None)]
    manifest = read_manifest(corpus.folder)
    assert manifest.seed == 9
    assert [shard.state for shard in manifest.shards] == ["complete", "missing"]


def test_manifest_that_is_right_gets_no_lock(corpus: HandmadeCorpus) -> None:
    before = set(corpus.folder.rglob("*"))
    settle_manifest(corpus.folder)
    assert set(corpus.folder.rglob("*")) == before


def test_corpus_without_records_is_what_its_manifest_says(corpus: HandmadeCorpus) -> None:
    before = read_manifest(corpus.folder)
    shutil.rmtree(corpus.folder / ".records")
    assert read_corpus(corpus.folder) == before
    assert set(present_records(corpus.folder)) == {shard.path for shard in corpus.plan}


def test_record_counts_only_while_its_shard_is_whole(corpus: HandmadeCorpus) -> None:
    shard = corpus.plan[0]
    assert shard.path in present_records(corpus.folder)
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content[:-512])
    assert shard.path not in present_records(corpus.folder)
    corpus.path(0).unlink()
    assert shard.path not in present_records(corpus.folder)


def test_shard_without_any_record_does_not_count(corpus: HandmadeCorpus) -> None:
    corpus.forget(0)
    assert set(present_records(corpus.folder)) == {corpus.plan[1].path}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"null", b"\xff", b'{"path": "../x"}']
)
def test_damaged_record_is_none(corpus: HandmadeCorpus, content: bytes) -> None:
    corpus.forget(0)
    record_path(corpus.folder, corpus.plan[0]).write_bytes(content)
    assert set(present_records(corpus.folder)) == {corpus.plan[1].path}


def test_records_of_all_shards_have_their_own_file(corpus: HandmadeCorpus) -> None:
    records = {record_path(corpus.folder, shard) for shard in corpus.plan}
    assert set((corpus.folder / ".records").iterdir()) == records


def test_folder_without_a_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"is not a corpus: it has no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/manifest.json").touch()
    with pytest.raises(CorpusError, match=f"Give {tmp_path / 'corpus'}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        b"\xff",
        '{"manifest_version": "one", "shards": []}',
        '{"manifest_version": 2}',
        '{"manifest_version": 2, "shards": 3}',
        '{"manifest_version": 2, "shards": ["x"]}',
        '{"manifest_version": 2, "shards": [{}]}',
        '{"manifest_version": 2, "shards": [{"path": 3}]}',
        '{"manifest_version": 2, "shards": {"path": "x"}}',
    ],
)
def test_damaged_manifest_is_named(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change", [{"first": "3"}, {"samples": None}, {"sha256": 5}, {"bytes": 1.5}]
)
def test_entry_with_a_wrong_field_is_damage(
    corpus: HandmadeCorpus, change: dict[str, object]
) -> None:
    manifest = read_manifest(corpus.folder).to_json()
    manifest["shards"][0] |= change
    (corpus.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        read_manifest(corpus.folder)


@pytest.mark.parametrize("path", ["../outside.tar", "data/../../outside.tar", "/outside.tar"])
def test_path_out_of_the_corpus_is_damage(corpus: HandmadeCorpus, path: str) -> None:
    manifest = read_manifest(corpus.folder).to_json()
    manifest["shards"][0]["path"] = path
    (corpus.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=f"'{path}' is not the path of a shard of parts.disc"):
        read_manifest(corpus.folder)


@pytest.mark.parametrize(
    ("version", "fix"),
    [(VERSION + 1, "Update sia-gen"), (VERSION - 1, "Make the corpus again in another folder")],
)
def test_manifest_of_another_version_is_refused(
    corpus: HandmadeCorpus, version: int, fix: str
) -> None:
    other = read_manifest(corpus.folder).to_json() | {"manifest_version": version, "shards": "?"}
    (corpus.folder / MANIFEST).write_text(json.dumps(other))
    with pytest.raises(CorpusError, match=rf"has version {version}; .* reads version 2\. {fix}"):
        read_manifest(corpus.folder)


@pytest.mark.parametrize(
    "field", [name for name, field in Manifest.model_fields.items() if field.is_required()]
)
def test_field_that_is_missing_is_damage(corpus: HandmadeCorpus, field: str) -> None:
    manifest = read_manifest(corpus.folder).to_json()
    del manifest[field]
    (corpus.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=rf"cannot be read \({field}: Field required\)"):
        read_manifest(corpus.folder)


def test_problem_is_one_short_line_without_control_characters(corpus: HandmadeCorpus) -> None:
    manifest = read_manifest(corpus.folder).to_json()
    manifest["versions"] = {"\x1b[2J\n" + "a" * 1_000_000: 3}
    (corpus.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorpusError) as error:
        read_manifest(corpus.folder)
    assert len(str(error.value)) < 700
    assert str(error.value).isprintable()


@pytest.mark.parametrize("depth", [100, 500, 900, 980])
def test_deep_field_is_damage(corpus: HandmadeCorpus, depth: int) -> None:
    manifest = read_manifest(corpus.folder).to_json()
    text = json.dumps(manifest | {"name": "?"}).replace('"?"', "[" * depth + "]" * depth)
    (corpus.folder / MANIFEST).write_text(text)
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        read_manifest(corpus.folder)


def test_other_versions_and_recipes_are_the_same_corpus(corpus: HandmadeCorpus) -> None:
    manifest = read_manifest(corpus.folder)
    other = {"recipe": "2" * 64, "sia_gen": "0.2.0", "versions": {}, "shards": []}
    assert manifest.difference(manifest.model_copy(update=other)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "cells"),
        ("seed", 1),
        ("images", 6),
        ("strength", "0.3"),
        ("steps", 3),
        ("sampler", "DDIMScheduler"),
        ("batch_size", 3),
        ("precision", "bf16"),
        ("compiled", True),
        ("channels_last", False),
        ("shard_size", 2),
        ("format", "webp"),
        ("mode", "RGB"),
        ("image_size", 16),
    ],
)
def test_what_changes_a_sample_makes_another_corpus(
    corpus: HandmadeCorpus, field: str, value: Any
) -> None:
    manifest = read_manifest(corpus.folder)
    difference = manifest.difference(manifest.model_copy(update={field: value}))
    assert difference == f"{field} ({getattr(manifest, field)}, not {value})"


def test_manifest_is_json_for_people(corpus: HandmadeCorpus) -> None:
    text = (corpus.folder / MANIFEST).read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
