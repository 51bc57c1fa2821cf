"""Verification: every kind of damage is found and the shard is named."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sia_gen.corpus.manifest import read_manifest
from sia_gen.corpus.parsing import RawSample, ShardParser
from sia_gen.corpus.verify import find_problems, verify
from sia_gen.errors import CorpusError
from sia_gen.sdas.loading import HashCache

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus, Sample

MakeSample = Callable[..., "Sample"]
TAR_BLOCK = 512


def lines(corpus: HandmadeCorpus) -> list[str]:
    return [str(problem) for problem in find_problems(corpus.folder)]


def assert_reported(corpus: HandmadeCorpus, number: int, *problems: str) -> None:
    """The problems of shard `number` are these, and no other shard has one."""
    found = lines(corpus)
    assert len(found) == len(problems), found
    for line, problem in zip(found, problems, strict=True):
        assert line.startswith(f"{corpus.plan[number].path}: {problem}")


def test_intact_corpus_is_counted(corpus: HandmadeCorpus) -> None:
    assert verify(corpus.folder) == f"{corpus.folder} is intact: 5 samples in 2 shards."


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_format_and_mode_verifies(
    make_corpus: Callable[..., HandmadeCorpus], image_format: str, mode: str
) -> None:
    assert find_problems(make_corpus(image_format=image_format, mode=mode).folder) == []


def test_problems_are_printed_and_counted(
    corpus: HandmadeCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):
        corpus.path(number).unlink()
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar: missing \(and 1 more\)"):
        verify(corpus.folder)
    printed = capsys.readouterr().err
    assert all(f"{shard.path}: missing" in printed for shard in corpus.plan)


@pytest.mark.parametrize("number", [0, 1])
def test_every_flipped_bit_is_found(corpus: HandmadeCorpus, number: int) -> None:
    content = corpus.path(number).read_bytes()
    for position in range(0, len(content), 29):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        corpus.path(number).write_bytes(damaged)
        problems = lines(corpus)
        assert problems[0] == f"{corpus.plan[number].path}: checksum differs from the manifest"
        assert all(line.startswith(corpus.plan[number].path) for line in problems)


def test_shard_cut_between_members_is_found(corpus: HandmadeCorpus) -> None:
    content = corpus.path(0).read_bytes()
    cut = content.index(b"parts_disc_00000002.json")
    assert cut % TAR_BLOCK == 0
    corpus.path(0).write_bytes(content[:cut])
    sizes = f"{cut} bytes, {len(content)} in the manifest"
    assert_reported(corpus, 0, sizes, "ends before parts_disc_00000002.json")


@pytest.mark.parametrize("keep", [0, 100, TAR_BLOCK, TAR_BLOCK + 10, 2 * TAR_BLOCK + 700])
def test_shard_cut_anywhere_is_found(corpus: HandmadeCorpus, keep: int) -> None:
    corpus.path(0).write_bytes(corpus.path(0).read_bytes()[:keep])
    problems = lines(corpus)
    assert problems[0].startswith(f"{corpus.plan[0].path}: {keep} bytes, ")
    assert len(problems) == 2


def test_missing_shard_is_found(corpus: HandmadeCorpus) -> None:
    corpus.path(1).unlink()
    assert_reported(corpus, 1, "missing")


def test_shard_not_made_yet_is_found(corpus: HandmadeCorpus) -> None:
    corpus.forget(1)
    assert_reported(corpus, 1, "never finished, or of another size than recorded")
    corpus.path(1).unlink()
    assert_reported(corpus, 1, "not made yet")


def test_exchanged_shards_are_found(corpus: HandmadeCorpus) -> None:
    one, two = (corpus.path(number).read_bytes() for number in (0, 1))
    corpus.path(0).write_bytes(two)
    corpus.path(1).write_bytes(one)
    problems = lines(corpus)
    for shard in corpus.plan:
        assert any(line.startswith(f"{shard.path}: parts_disc_") for line in problems)


def test_reordered_samples_are_found(corpus: HandmadeCorpus, sample: MakeSample) -> None:
    corpus.write(corpus.plan[0], [sample(index) for index in (0, 2, 1)])
    assert_reported(corpus, 0, "parts_disc_00000002.json: not expected here")


@pytest.mark.parametrize(
    ("indices", "problem"),
    [
        ((0, 1), "ends before parts_disc_00000002.json"),
        ((0, 1, 2, 3), "parts_disc_00000003.json: not expected here"),
        ((0, 0, 1), "parts_disc_00000000.json: not expected here"),
    ],
)
def test_wrong_samples_are_found(
    corpus: HandmadeCorpus, sample: MakeSample, indices: tuple[int, ...], problem: str
) -> None:
    corpus.write(corpus.plan[0], [sample(index) for index in indices])
    assert_reported(corpus, 0, problem)


def test_sample_of_another_category_is_found(corpus: HandmadeCorpus, sample: MakeSample) -> None:
    corpus.write(corpus.plan[1], [sample(3, "plate"), sample(4, "plate")])
    assert_reported(corpus, 1, "parts_plate_00000003.json: not expected here")


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({"size": 4}, ["json: 'width' is 4, not 8", "png: 4 x 4 pixels, not 8 x 8"]),
        ({"mode": "RGB"}, ["png: mode RGB, not L"]),
    ],
)
def test_wrong_image_is_found(
    corpus: HandmadeCorpus, sample: MakeSample, options: dict[str, Any], problems: list[str]
) -> None:
    corpus.write(corpus.plan[0], [sample(0), sample(1, **options), sample(2)])
    assert_reported(corpus, 0, *(f"parts_disc_00000001.{problem}" for problem in problems))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"strength": 0}, "'strength' is 0, not of type float"),
        ({"seed": 1.0}, "'seed' is 1.0, not of type int"),
        ({"index": True}, "'index' is True, not of type int"),
        ({"sampler": None}, "'sampler' is None, not of type str"),
        ({"model": "2" * 64}, "'model' is '2222"),
        ({"dataset": "../.."}, "'dataset' is '../..', not 'parts'"),
        ({"width": 9}, "'width' is 9, not 8"),
    ],
)
def test_wrong_metadata_is_found(
    corpus: HandmadeCorpus, sample: MakeSample, change: dict[str, Any], problem: str
) -> None:
    metadata, image = sample(1)
    corpus.write(corpus.plan[0], [sample(0), (replace(metadata, **change), image), sample(2)])
    assert_reported(corpus, 0, f"parts_disc_00000001.json: {problem}")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[]", b"{}", b'{"key": 1}'])
def test_metadata_without_the_schema_is_found(corpus: HandmadeCorpus, content: bytes) -> None:
    manifest = read_manifest(corpus.folder)
    parser = ShardParser(manifest.records[0], manifest.form)
    with pytest.raises(ValueError, match=r"^not JSON|^its fields are not key, dataset, "):
        parser.decode_metadata(RawSample(0, {"json": content}, 0))


def test_link_in_place_of_a_member_is_not_followed(corpus: HandmadeCorpus) -> None:
    member = tarfile.TarInfo("parts_disc_00000000.json")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(member)
    corpus.path(0).write_bytes(buffer.getvalue())
    assert "parts_disc_00000000.json: not a plain file of at most" in lines(corpus)[-1]


def test_shard_that_nobody_planned_is_found_and_left_alone(
    corpus: HandmadeCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = corpus.path(0).with_name("train-00002-of-00002.tar")
    foreign.write_bytes(b"mine")
    with pytest.raises(CorpusError, match=r"Move data/parts/disc/train-00002.* away"):
        verify(corpus.folder, repair=True)
    assert f"{foreign.relative_to(corpus.folder)}: not in the manifest" in capsys.readouterr().err
    assert foreign.read_bytes() == b"mine"
    foreign.rename(foreign.with_name(".train-00002-of-00002.tar.tmp"))
    (corpus.folder / "notes.txt").write_text("not a shard")
    assert "is intact" in verify(corpus.folder)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_repair_leaves_what_synthesize_has_to_make(corpus: HandmadeCorpus, damage: str) -> None:
    content = corpus.path(0).read_bytes()
    if damage == "delete":
        corpus.path(0).unlink()
    else:
        changed = content[:700] if damage == "cut" else content[:600] + b"?" + content[601:]
        corpus.path(0).write_bytes(changed)
    assert "to make again: 1. Run" in verify(corpus.folder, repair=True)
    assert not corpus.path(0).exists()
    states = [shard.state for shard in read_manifest(corpus.folder).shards]
    assert states == ["missing", "complete"]
    with pytest.raises(CorpusError, match="Run 'sia-gen synthesize' again"):
        verify(corpus.folder)
    corpus.write(corpus.plan[0], corpus.samples(corpus.plan[0]))
    assert corpus.path(0).read_bytes() == content
    assert "is intact" in verify(corpus.folder, repair=True)


def test_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a corpus"):
        verify(tmp_path)


def test_shards_that_share_samples_are_found(corpus: HandmadeCorpus) -> None:
    path = corpus.plan[1].path.replace("00001-of", "00002-of")
    twin = corpus.plan[1].model_copy(update={"path": path})
    corpus.plan.append(twin)
    corpus.write(twin, corpus.samples(twin))
    problem = f"holds parts_disc_00000003, which is in {corpus.plan[1].path} too"
    assert lines(corpus) == [f"{twin.path}: {problem}"]


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', "[" * 100_000, "NaN"])
def test_damaged_hashes_of_models_are_no_loss(corpus: HandmadeCorpus, content: str) -> None:
    (corpus.folder / ".records/weights.json").write_text(content)
    assert HashCache(corpus.folder / ".records/weights.json").known == {}
    assert find_problems(corpus.folder) == []
