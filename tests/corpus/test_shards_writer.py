"""The writing behind the sampling: in order, bounded, and whole or absent whatever goes wrong."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.shards import (
    BATCHES_AHEAD,
    EncodedSample,
    ShardIndex,
    ShardWriter,
    write_shard,
)


def planned(number: int, samples: int) -> ShardPlan:
    path = f"data/parts/disc/train-{number:05d}-of-00040.tar"
    return ShardPlan(
        path=path,
        dataset="parts",
        category="disc",
        first=samples * number,
        samples=samples,
        strengths={"white": "0.1"},
    )


SHARDS = [planned(number, 3) for number in range(4)]


def sample(index: int) -> EncodedSample:
    return {"__key__": f"parts_disc_{index:08d}", "json": b"{}"}


def slow(index: int) -> list[EncodedSample]:
    # The later the faster, so that they would overtake each other.
    time.sleep(0.02 * (2 - index % 3))
    return [sample(index)]


class Written(list[str]):
    """The shards that were written, in their order."""

    def __call__(self, shard: ShardPlan, index: ShardIndex) -> None:
        self.append(shard.path)


def fill(writer: ShardWriter, shards: list[ShardPlan] = SHARDS) -> None:
    for shard in shards:
        for index in shard.indices:
            writer.put(shard, lambda index=index: slow(index))


def test_shards_are_those_of_writing_one_by_one(tmp_path: Path) -> None:
    written = Written()
    with ShardWriter(tmp_path / "behind", written) as writer:
        fill(writer)
    assert written == [shard.path for shard in SHARDS]
    for shard in SHARDS:
        write_shard(tmp_path / "plain" / shard.path, map(sample, shard.indices))
        behind = (tmp_path / "behind" / shard.path).read_bytes()
        assert behind == (tmp_path / "plain" / shard.path).read_bytes()


def test_sampling_goes_on_while_a_shard_is_written_but_not_without_end(tmp_path: Path) -> None:
    may_write = threading.Event()
    put = 0

    def blocked(shard: ShardPlan, index: ShardIndex) -> None:
        may_write.wait(10)

    def sampling(writer: ShardWriter) -> None:
        nonlocal put
        for shard in [planned(number, 1) for number in range(40)]:
            writer.put(shard, lambda index=shard.first: [sample(index)])
            put += 1

    with ShardWriter(tmp_path, blocked) as writer:
        thread = threading.Thread(target=sampling, args=(writer,))
        thread.start()
        deadline = time.monotonic() + 10
        while put < 1 + BATCHES_AHEAD and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert put == 1 + BATCHES_AHEAD
        may_write.set()
        thread.join()
    assert len(list(tmp_path.rglob("*.tar"))) == 40


@pytest.mark.parametrize("after", [0, 1, 2])
def test_interruption_keeps_whole_shards_alone(tmp_path: Path, after: int) -> None:
    written = Written()

    def interrupted() -> None:
        with ShardWriter(tmp_path, written) as writer:
            fill(writer, SHARDS[:2])
            for index in list(SHARDS[2].indices)[:after]:
                writer.put(SHARDS[2], lambda index=index: slow(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [shard.path for shard in SHARDS[:2]]
    whole = [shard.path.rpartition("/")[2] for shard in SHARDS[:2]]
    assert sorted(path.name for path in tmp_path.rglob("*.tar*")) == whole


def test_interruption_between_shards_keeps_all(tmp_path: Path) -> None:
    written = Written()

    def interrupted() -> None:
        with ShardWriter(tmp_path, written) as writer:
            fill(writer, SHARDS[:3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(written) == 3


@pytest.mark.parametrize("where", ["encoding", "recording"])
def test_what_goes_wrong_in_a_thread_is_raised(tmp_path: Path, where: str) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    written = Written()

    def failing(shard: ShardPlan, index: ShardIndex) -> None:
        written(shard, index)
        if where == "recording" and shard == SHARDS[1]:
            raise full

    def encode(index: int) -> list[EncodedSample]:
        if where == "encoding" and index == 4:
            raise full
        return [sample(index)]

    def fill_for_long() -> None:
        with ShardWriter(tmp_path, failing) as writer:
            for shard in SHARDS * 100:
                for index in shard.indices:
                    writer.put(shard, lambda index=index: encode(index))

    with pytest.raises(OSError, match="No space left") as raised:
        fill_for_long()
    assert raised.value is full
    assert SHARDS[2].path not in written, "samples of the failed shard never end up in the next"
    assert threading.active_count() < 10
