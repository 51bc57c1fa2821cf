"""Reading the synthetic images of a corpus back, each alone."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from sia_gen.corpus import manifest as manifests
from sia_gen.corpus.manifest import read_corpus, record_path
from sia_gen.corpus.reading import SampleReader, read_whole
from sia_gen.corpus.shards import index_name
from sia_gen.corpus.verify import OTHER_INDEX, find_problems, verify
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


def test_each_of_many_processes_reads_its_own_samples_alone(corpus: HandmadeCorpus) -> None:
    reader = SampleReader(corpus.folder, "parts", "disc")
    assert reader[0][0]["index"] == 0
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        parts = list(pool.map(partial(indices_of, reader), [range(0, 400, 2), range(1, 400, 2)]))
    assert parts == [[n % 5 for n in range(0, 400, 2)], [n % 5 for n in range(1, 400, 2)]]


def indices_of(reader: SampleReader, numbers: Iterable[int]) -> list[int]:
    return [reader[number][0]["index"] for number in numbers]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of shards at URLs were read at a time."""
    sizes: list[int] = []

    def counted(self: MemoryFile, size: int = -1) -> bytes:
        content = BytesIO.read(self, size)
        if self.path.endswith(".tar"):
            sizes.append(len(content))
        return content

    monkeypatch.setattr(MemoryFile, "read", counted, raising=False)
    return sizes


@pytest.fixture
def url(corpus: HandmadeCorpus) -> UPath:
    """The corpus at a URL."""
    place = UPath(f"memory://{corpus.folder.parent.name}")
    for path in corpus.folder.rglob("*.*"):
        if path.is_file():
            there = place / path.relative_to(corpus.folder).as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    return place


def test_over_a_url_no_more_is_read_than_what_is_used(url: UPath, read: list[int]) -> None:
    reader = SampleReader(url, "parts", "disc")
    assert read == []
    assert indices_of(reader, [4, 1, 1]) == [4, 1, 1]
    sizes = [np.diff(index.offsets) for index in reader.indexes]
    assert read == [sizes[1][1], sizes[0][1], sizes[0][1]]


def test_shard_that_lost_its_index_is_read_through_once(url: UPath, read: list[int]) -> None:
    (url / "data/parts/disc/train-00000-of-00002.index.json").unlink()
    reader = SampleReader(url, "parts", "disc")
    found = sum(read)
    assert found <= (url / "data/parts/disc/train-00000-of-00002.tar").stat().st_size
    assert indices_of(reader, range(5)) == [0, 1, 2, 3, 4]
    assert sum(read) == found + sum(index.offsets[-1] for index in reader.indexes)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"offsets": [0, 512]},
        {"offsets": [0, 2560, 1024, 7680]},
        {"offsets": [0, 2560, 5120, 1 << 40]},
        {"offsets": "all"},
        {"mask_areas": [0.5, 0.5, 0.5]},
        {"sha256": None},
        {"offsets": [10**30, 10**30 + 1024, 10**30 + 2048, 10**30 + 3072]},
        {"offsets": [1 << 62, (1 << 62) + 1, (1 << 62) + 2, (1 << 62) + 3]},
        {"mask_areas": [[]] * 1000},
    ],
)
def test_index_that_cannot_be_right_is_none(corpus: HandmadeCorpus, change: dict[str, Any]) -> None:
    path = corpus.folder / index_name(corpus.plan[0])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert np.array_equal([np.asarray(image) for _, image in read_all(corpus)], made(corpus))


def test_index_that_lies_is_noticed(corpus: HandmadeCorpus) -> None:
    path = corpus.folder / index_name(corpus.plan[0])
    index = json.loads(path.read_text())
    index["offsets"][1] += 512
    path.write_text(json.dumps(index))
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        read_all(corpus)
    problems = find_problems(corpus.folder)
    assert [str(one) for one in problems] == [f"{index_name(corpus.plan[0])}: {OTHER_INDEX}"]


@pytest.mark.parametrize("lost", [False, True])
def test_repair_writes_an_index_and_keeps_its_shard(corpus: HandmadeCorpus, lost: bool) -> None:
    path, shard = corpus.folder / index_name(corpus.plan[0]), corpus.path(0).read_bytes()
    right = path.read_bytes()
    path.write_bytes(right.replace(b"2048", b"2560"))
    if lost:
        path.unlink()
    assert "is intact" in verify(corpus.folder, repair=True)
    assert (path.read_bytes(), corpus.path(0).read_bytes()) == (right, shard)


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


def test_categories_of_one_name_belong_to_their_data_sets(corpus: HandmadeCorpus) -> None:
    path = corpus.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    other = [
        shard | {"dataset": "other", "path": shard["path"].replace("parts", "other")}
        for shard in manifest["shards"]
    ]
    path.write_text(json.dumps(manifest | {"shards": manifest["shards"] + other}))
    shards = SampleReader(corpus.folder, "parts", "disc").shards
    assert [shard.dataset for shard in shards] == ["parts", "parts"]


def test_category_of_another_data_set_is_another_category(corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match=r"no category 'third\.disc'.* It has 'parts\.disc'"):
        SampleReader(corpus.folder, "third", "disc")


def test_unknown_category_is_refused(corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match=r"has no category 'parts\.plate'"):
        SampleReader(corpus.folder, "parts", "plate")


def test_empty_corpus_is_refused(corpus: HandmadeCorpus) -> None:
    path = corpus.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shards": []}))
    shutil.rmtree(corpus.folder / ".records")
    with pytest.raises(CorpusError, match=r"has no category 'parts\.disc'"):
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
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged \(it has .* bytes"):
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
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        list(read_whole(corpus.folder, manifest.records[0], manifest.form))


def test_sample_without_its_image_is_named(corpus: HandmadeCorpus) -> None:
    content = corpus.path(0).read_bytes()
    start = content.index(b"parts_disc_00000001.png")
    length = int(content[start + 124 : start + 135], 8)
    end = start + TAR_BLOCK + -(-length // TAR_BLOCK) * TAR_BLOCK
    corpus.path(0).write_bytes(content[:start] + content[end:] + bytes(end - start))
    with pytest.raises(CorpusError, match=r"parts_disc_00000002\.json: not expected here"):
        read_all(corpus)
