"""The plan: every sample in one shard, every shard at one process."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.corpus.plan import ShardPlan, choose_shards
from sia_gen.errors import OptionError
from tests.corpus.conftest import plan_parts

counts = st.integers(1, 60)


@given(images=counts, shard_size=counts)
def test_shards_hold_every_sample_once_and_in_order(images: int, shard_size: int) -> None:
    plan = plan_parts(["disc", "plate"], images, shard_size)
    for category in ("disc", "plate"):
        shards = [shard for shard in plan if shard.category == category]
        indices = chain.from_iterable(shard.batches(1000) for shard in shards)
        assert [index for batch in indices for index in batch] == list(range(images))
        assert all(shard.samples == shard_size for shard in shards[:-1])


@given(first=st.integers(0, 100), samples=counts, batch_size=counts)
def test_batches_fill_a_shard_and_never_leave_it(first: int, samples: int, batch_size: int) -> None:
    path = "data/parts/disc/train-00000-of-00001.tar"
    shard = ShardPlan(
        path=path,
        dataset="parts",
        category="disc",
        first=first,
        samples=samples,
        strengths={"white": "0.1"},
    )
    batches = list(shard.batches(batch_size))
    assert list(chain.from_iterable(batches)) == list(range(first, first + samples))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


def test_paths_are_those_the_hub_reads() -> None:
    plan = plan_parts(["disc", "plate"], 5, 2)
    assert [shard.path for shard in plan] == [
        "data/parts/disc/train-00000-of-00003.tar",
        "data/parts/disc/train-00001-of-00003.tar",
        "data/parts/disc/train-00002-of-00003.tar",
        "data/parts/plate/train-00000-of-00003.tar",
        "data/parts/plate/train-00001-of-00003.tar",
        "data/parts/plate/train-00002-of-00003.tar",
    ]
    assert [(shard.first, shard.samples) for shard in plan[:3]] == [(0, 2), (2, 2), (4, 1)]


def test_category_keeps_its_shards_when_others_join() -> None:
    alone = plan_parts(["plate"], 5, 2)
    joined = plan_parts(["disc", "plate"], 5, 2)
    assert [shard for shard in joined if shard.category == "plate"] == alone


def test_part_of_a_plan_is_a_slice_of_it() -> None:
    plan = plan_parts(["disc", "plate"], 5, 2)
    assert choose_shards(plan, None) == plan
    assert choose_shards(plan, "0:6") == plan
    assert choose_shards(plan, "2:4") == plan[2:4]


@pytest.mark.parametrize(
    "span", ["", "3", ":", "3:", ":3", "3:3", "4:2", "-1:2", "0:7", "a:b", "1:2:3"]
)
def test_part_that_is_no_range_of_the_plan_is_refused(span: str) -> None:
    with pytest.raises(OptionError, match=r"takes A:B with 0 <= A < B <= 6.*shards 0:6"):
        choose_shards(plan_parts(["disc", "plate"], 5, 2), span)
