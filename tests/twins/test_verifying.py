"""Damage to corpora of twins is found, member by member, and mended by making them again."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import webdataset
from PIL import Image

from sia_gen.corpus.manifest import read_corpus, write_manifest, write_record
from sia_gen.corpus.shards import ShardIndex
from sia_gen.corpus.verify import find_problems, verify
from sia_gen.errors import CorpusError
from sia_gen.io.files import sha256

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

SHARD = "data/parts/disc/train-00000-of-00002.tar"
KEY = "parts_disc_00000001"
Members = dict[str, bytes]


def picture(mode: str = "L", size: int = 16, colour: Any = 0, file_format: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.new(mode, (size, size), colour).save(buffer, file_format)
    return buffer.getvalue()


def with_json(members: Members, **changes: Any) -> bytes:
    return json.dumps(json.loads(members["json"]) | changes).encode()


def damaged(corpus: Path, change: Callable[[Members], Any]) -> list[str]:
    """The problems once a sample is changed, in a shard whose checksum fits."""
    samples: dict[str, Any] = {}
    with tarfile.open(corpus / SHARD) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
    change(samples[KEY])
    with (corpus / SHARD).open("wb") as file, webdataset.TarWriter(file, encoder=False) as writer:
        for key, members in samples.items():
            writer.write({"__key__": key, **members})
    index = ShardIndex(sha256=sha256(corpus / SHARD), offsets=[0], mask_areas=[])
    record = next(one for one in read_corpus(corpus).records if one.path == SHARD)
    write_record(corpus, record, index, record.model)
    write_manifest(corpus, read_corpus(corpus))
    return [str(problem) for problem in find_problems(corpus)]


CHANGES: dict[str, tuple[Callable[[Members], Any], str]] = {
    "mask with grey": (
        lambda one: one.update({"mask.png": picture(colour=128)}),
        f"{KEY}.mask.png: not a mask: it has other values than 0 and 255",
    ),
    "coloured mask": (
        lambda one: one.update({"mask.png": picture("RGB")}),
        f"{KEY}.mask.png: mode RGB, not L",
    ),
    "larger mask": (
        lambda one: one.update({"mask.png": picture(size=17)}),
        f"{KEY}.mask.png: 17 x 17 pixels, not 16 x 16",
    ),
    "mask of another format": (
        lambda one: one.update({"mask.png": picture(file_format="JPEG")}),
        f"{KEY}.mask.png: not a whole PNG image",
    ),
    "cut normal twin": (
        lambda one: one.update({"normal.png": one["normal.png"][:100]}),
        f"{KEY}.normal.png: not a whole PNG image",
    ),
    "coloured normal twin": (
        lambda one: one.update({"normal.png": picture("RGB")}),
        f"{KEY}.normal.png: mode RGB, not L",
    ),
    "no normal twin": (
        lambda one: one.pop("normal.png"),
        f"not expected here, but {KEY}.normal.png",
    ),
    "no mask": (lambda one: one.pop("mask.png"), f"not expected here, but {KEY}.mask.png"),
    "no area": (
        lambda one: one.update(json=with_json(one).replace(b"mask_area", b"area")),
        f"{KEY}.json: its fields are not key",
    ),
    "area that is no number": (
        lambda one: one.update(json=with_json(one, mask_area="all")),
        f"{KEY}.json: 'mask_area' is 'all', not of type float",
    ),
    "area of another mask": (
        lambda one: one.update(json=with_json(one, mask_area=0.123)),
        f"{KEY}.json: 'mask_area' is 0.123, but the mask covers",
    ),
    "start beyond noise": (
        lambda one: one.update(json=with_json(one, start=1.5)),
        f"{KEY}.json: 'start' is 1.5",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_member_is_named(make_twins: MakeTwins, name: str) -> None:
    change, text = CHANGES[name]
    corpus, _ = make_twins(categories=["disc"], changes={"synthesis.images": 4})
    assert find_problems(corpus) == []
    (problem,) = damaged(corpus, change)
    assert problem.startswith(f"{SHARD}: ")
    assert text in problem


def test_repaired_shards_are_made_again_byte_by_byte(make_twins: MakeTwins) -> None:
    options = {"twins": {"region": "box"}, "categories": ["disc"]}
    corpus, _ = make_twins("corpus", **options)
    shards = sorted(corpus.glob("data/**/*.tar"))
    whole = [shard.read_bytes() for shard in shards]
    content = bytearray(whole[0])
    content[-12_000] ^= 1
    shards[0].write_bytes(content)
    with pytest.raises(CorpusError, match="is not intact"):
        verify(corpus)
    assert "to make again: 1. Run" in verify(corpus, repair=True)
    assert not shards[0].exists()
    make_twins("corpus", **options)
    assert [shard.read_bytes() for shard in shards] == whole
    assert "5 samples in 2 shards" in verify(corpus)


def test_deleted_shard_alone_is_made_again(make_twins: MakeTwins) -> None:
    corpus, first = make_twins("corpus")
    shards = sorted(corpus.glob("data/**/*.tar"))
    whole = [shard.read_bytes() for shard in shards]
    shards[2].unlink()
    _, second = make_twins("corpus")
    assert [shard.read_bytes() for shard in shards] == whole
    assert (first.mask_counts.total(), second.mask_counts.total()) == (10, 3)
