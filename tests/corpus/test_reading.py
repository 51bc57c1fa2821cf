"""Reading the synthetic images of a corpus back, as a stream."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sia_gen.corpus import manifest as manifests
from sia_gen.corpus import reading
from sia_gen.corpus.entries import record_of
from sia_gen.corpus.manifest import read_corpus, record_path
from sia_gen.corpus.reading import SampleReader, read_whole
from sia_gen.corpus.schema import SampleForm
from sia_gen.errors import CorpusError

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus

TAR_BLOCK = 512


def read_all(corpus: HandmadeCorpus) -> list[Any]:
    reader = SampleReader(corpus.folder, "parts", "disc")
    return [reader[number] for number in range(reader.total)]


def made(corpus: HandmadeCorpus) -> list[Any]:
    return [np.asarray(image) for shard in corpus.plan for _, image in corpus.samples(shard)]


def test_samples_come_in_order_and_unchanged(corpus: HandmadeCorpus) -> None:
    found = read_all(corpus)
    assert [metadata["index"] for metadata, _ in found] == [0, 1, 2, 3, 4]
    assert np.array_equal([np.asarray(image) for _, image in found], made(corpus))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 30), max_size=12))
def test_any_order_of_numbers_gives_those_samples(
    corpus: HandmadeCorpus, numbers: list[int]
) -> None:
    reader = SampleReader(corpus.folder, "parts", "disc")
    assert [reader[number][0]["index"] for number in numbers] == [n % 5 for n in numbers]


def test_reader_goes_to_other_processes(corpus: HandmadeCorpus) -> None:
    reader = SampleReader(corpus.folder, "parts", "disc")
    assert reader[3][0]["index"] == 3
    copied = pickle.loads(pickle.dumps(reader))
    assert [copied[number][0]["index"] for number in (4, 0)] == [4, 0]
    assert reader[4][0]["index"] == 4


def test_ascending_numbers_open_each_shard_once_and_decode_nothing_else(
    corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, decoded = [], []
    read, decode = reading.read_samples, reading.decode_sample

    def reads(file: Any, *arguments: Any) -> Any:
        opened.append(Path(file.file.name))
        return read(file, *arguments)

    monkeypatch.setattr(reading, "read_samples", reads)
    monkeypatch.setattr(reading, "decode_sample", lambda *a: decoded.append(1) or decode(*a))
    reader = SampleReader(corpus.folder, "parts", "disc")
    for number in (0, 2, 4):
        reader[number]
    assert opened == [corpus.path(0), corpus.path(1)]
    assert len(decoded) == 3


def test_manifest_and_records_are_read_once(
    corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, read = [], manifests.read_json

    def reads(path: Path) -> Any:
        files.append(path.name)
        return read(path)

    monkeypatch.setattr(manifests, "read_json", reads)
    SampleReader(corpus.folder, "parts", "disc")
    records = [record_path(corpus.folder, shard).name for shard in corpus.plan]
    assert files == ["manifest.json", *records]


def test_data_set_decides_between_categories_of_one_name(corpus: HandmadeCorpus) -> None:
    path = corpus.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    other = [
        shard | {"dataset": "other", "path": shard["path"].replace("parts", "other")}
        for shard in manifest["shards"]
    ]
    path.write_text(json.dumps(manifest | {"shards": manifest["shards"] + other}))
    shards = SampleReader(corpus.folder, "parts", "disc").shards
    assert [shard.dataset for shard in shards] == ["parts", "parts"]


def test_unknown_category_is_refused(corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match="has no category 'plate'"):
        SampleReader(corpus.folder, "parts", "plate")


def test_empty_corpus_is_refused(corpus: HandmadeCorpus) -> None:
    path = corpus.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shards": []}))
    shutil.rmtree(corpus.folder / ".records")
    with pytest.raises(CorpusError, match="has no category 'disc'"):
        SampleReader(corpus.folder, "parts", "disc")


def test_missing_shard_is_named(corpus: HandmadeCorpus) -> None:
    corpus.path(1).unlink()
    with pytest.raises(CorpusError, match=r"train-00001-of-00002\.tar is missing"):
        SampleReader(corpus.folder, "parts", "disc")


def test_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a corpus"):
        SampleReader(tmp_path, "parts", "disc")


def test_shard_cut_between_members_is_refused(corpus: HandmadeCorpus) -> None:
    content = corpus.path(0).read_bytes()
    second_sample = content.index(b"parts_disc_00000001.json")
    assert second_sample % TAR_BLOCK == 0
    corpus.path(0).write_bytes(content[:second_sample])
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged \(ends before"):
        read_all(corpus)


@pytest.mark.parametrize("keep", [0, 100, 700, 1300])
def test_shard_cut_anywhere_is_refused(corpus: HandmadeCorpus, keep: int) -> None:
    corpus.path(0).write_bytes(corpus.path(0).read_bytes()[:keep])
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        read_all(corpus)


@pytest.mark.parametrize("chunk", [b"\x89PNG", b"IHDR", b"IDAT"])
def test_damaged_image_is_refused(corpus: HandmadeCorpus, chunk: bytes) -> None:
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content.replace(chunk, b"\xff\xfe\xfd\xfc", 1))
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        read_all(corpus)
    manifest = read_corpus(corpus.folder)
    shard, form = record_of(manifest["shards"][0]), SampleForm.of(manifest)
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        list(read_whole(corpus.folder, shard, form))


def test_sample_without_its_image_is_named(corpus: HandmadeCorpus) -> None:
    content = corpus.path(0).read_bytes()
    start = content.index(b"parts_disc_00000001.png")
    length = int(content[start + 124 : start + 135], 8)
    end = start + TAR_BLOCK + -(-length // TAR_BLOCK) * TAR_BLOCK
    corpus.path(0).write_bytes(content[:start] + content[end:])
    with pytest.raises(CorpusError, match=r"parts_disc_00000002\.json: not expected here"):
        read_all(corpus)
