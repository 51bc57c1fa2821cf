"""Shards: the same bytes for the same samples, whole or absent, readable by others."""

from __future__ import annotations

import gc
import json
import os
import tarfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from sia_gen.corpus.schema import SampleMetadata
from sia_gen.corpus.shards import (
    encode,
    encode_sample,
    write_shard,
)
from sia_gen.io.files import sha256
from tests.corpus.conftest import read_shards

Sample = tuple[SampleMetadata, Image.Image]
MakeSample = Callable[..., Sample]


def encoded(samples: list[Sample], image_format: str = "png") -> list[dict[str, str | bytes]]:
    return [encode_sample(metadata, {image_format: image}) for metadata, image in samples]


@pytest.fixture
def samples(sample: MakeSample) -> list[Sample]:
    return [sample(index) for index in range(3)]


def test_same_samples_give_the_same_bytes(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "one.tar", encoded(samples))
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    previous = os.umask(0o077)
    write_shard(tmp_path / "two.tar", iter(encoded(samples)))
    os.umask(previous)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.parametrize("existing", [None, b"an earlier shard"])
def test_exception_in_the_middle_leaves_no_new_shard(
    samples: list[Sample], tmp_path: Path, existing: bytes | None
) -> None:
    path = tmp_path / "shard.tar"
    if existing is not None:
        path.write_bytes(existing)

    def interrupted() -> Iterator[dict[str, str | bytes]]:
        yield from encoded(samples[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(path, interrupted())
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert left == ({} if existing is None else {"shard.tar": existing})


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_lossless_formats_keep_every_pixel(
    sample: MakeSample, tmp_path: Path, mode: str, image_format: str
) -> None:
    samples = [sample(index, mode=mode) for index in range(3)]
    path = tmp_path / "shard.tar"
    written = write_shard(path, encoded(samples, image_format))
    assert written.sha256 == sha256(path)
    read = list(read_shards([tmp_path / "shard.tar"]))
    assert [metadata for metadata, _ in read] == [asdict(metadata) for metadata, _ in samples]
    for (_, before), (_, after) in zip(samples, read, strict=True):
        assert np.array_equal(np.asarray(after.convert(mode)), np.asarray(before))


def test_jpg_is_close(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    decoded = Image.open(BytesIO(encode(Image.fromarray(ramp), "jpg")))
    assert (decoded.format, decoded.mode) == ("JPEG", "L")
    assert np.abs(np.asarray(decoded).astype(int) - ramp).max() < 10


# webdataset leaves the files it has read open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_reads_a_shard_by_itself(samples: list[Sample], tmp_path: Path) -> None:
    write_shard(tmp_path / "shard.tar", encoded(samples))
    dataset = webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)
    read = list(dataset.decode("pil").to_tuple("__key__", "png", "json"))
    assert [key for key, _, _ in read] == [metadata.key for metadata, _ in samples]
    for (metadata, image), (_, decoded, content) in zip(samples, read, strict=True):
        assert content == asdict(metadata)
        assert np.array_equal(np.asarray(decoded.convert("L")), np.asarray(image))
    del dataset
    gc.collect()


def test_members_are_plain_files_named_by_key(samples: list[Sample], tmp_path: Path) -> None:
    write_shard(tmp_path / "shard.tar", encoded(samples, "webp"))
    with tarfile.open(tmp_path / "shard.tar") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [
        f"{metadata.key}.{extension}" for metadata, _ in samples for extension in ("json", "webp")
    ]
    assert all(member.isfile() for member in members)
    assert {(m.mtime, m.uname, m.uid, m.mode) for m in members} == {(0, "sia-gen", 0, 0o644)}


def test_floats_are_written_as_floats(tmp_path: Path, samples: list[Sample]) -> None:
    metadata, image = samples[0]
    zero = SampleMetadata(**asdict(metadata) | {"strength": 0.0})
    write_shard(tmp_path / "shard.tar", encoded([(zero, image)]))
    with tarfile.open(tmp_path / "shard.tar") as tar:
        member = tar.extractfile(f"{zero.key}.json")
        assert member is not None
        content = member.read().decode()
    assert '"strength": 0.0' in content
    assert '"guidance_scale": 0.0' in content
    assert json.loads(content).keys() == asdict(zero).keys()


def test_shards_are_read_one_after_another(samples: list[Sample], tmp_path: Path) -> None:
    paths = [tmp_path / "b.tar", tmp_path / "a.tar"]
    write_shard(paths[0], encoded(samples[:2]))
    write_shard(paths[1], encoded(samples[2:]))
    assert [metadata["index"] for metadata, _ in read_shards(paths)] == [0, 1, 2]


@pytest.mark.parametrize("name", ["a:b", "{a,b}", "pipe:false", "a::b"])
def test_path_is_never_taken_for_a_url_or_a_command(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_shard(Path(name), encoded(samples))
    assert len(list(read_shards([Path(name)]))) == len(samples)


def test_read_shards_are_closed(samples: list[Sample], tmp_path: Path) -> None:
    write_shard(tmp_path / "shard.tar", encoded(samples))
    with warnings.catch_warnings(record=True, action="always", category=ResourceWarning) as leaks:
        list(read_shards([tmp_path / "shard.tar"]))
        gc.collect()
    assert leaks == []
