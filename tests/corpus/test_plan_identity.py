"""The identity of a sample follows from its place in the corpus alone."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import identify
from tests.corpus.conftest import plan_parts

RANGE = Strength(0.1, 0.2)
WHITE = {"white": RANGE}
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
disc = partial(identify, 0, "parts", "disc", strengths=WHITE)


def test_order_does_not_matter() -> None:
    forwards = [disc(index) for index in range(100)]
    shuffled = random.Random(0).sample(range(100), 100)
    backwards = {index: disc(index) for index in shuffled}
    assert [backwards[index] for index in range(100)] == forwards


def test_other_processes_find_the_same() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(disc, range(4))) == [disc(index) for index in range(4)]


@given(images=st.integers(1, 40), shard_size=st.integers(1, 10), processes=st.integers(1, 8))
def test_any_number_of_processes_makes_the_same_samples(
    images: int, shard_size: int, processes: int
) -> None:
    plan = plan_parts(["disc"], images, shard_size)
    made = [
        disc(shard.first + offset)
        for rank in range(processes)
        for shard in plan[rank::processes]
        for offset in range(shard.samples)
    ]
    assert sorted(made, key=lambda identity: identity.index) == [disc(i) for i in range(images)]


@given(seed=st.integers(0, 2**31), dataset=names, category=names, index=st.integers(0, 10**8 - 1))
def test_identity_is_in_range_and_its_key_has_no_dot(
    seed: int, dataset: str, category: str, index: int
) -> None:
    identity = identify(seed, dataset, category, index, WHITE)
    assert RANGE.low <= identity.strength <= RANGE.high
    assert 0 <= identity.seed < 2**53
    assert identity.key == f"{dataset}_{category}_{index:08d}"
    assert not set(identity.key) & {".", "/"}


def test_strengths_are_uniform() -> None:
    strengths = [disc(index).strength for index in range(5000)]
    assert kstest(strengths, "uniform", args=(0.1, 0.1)).pvalue > 0.01


def test_strength_tells_nothing_about_the_seed() -> None:
    identities = [disc(index) for index in range(5000)]
    pairs = [(identity.seed, identity.strength) for identity in identities]
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.05


def test_seeds_are_all_different() -> None:
    places = [
        identify(seed, dataset, category, index, WHITE).seed
        for seed in (0, 1)
        for dataset in ("parts", "cells")
        for category in ("disc", "plate")
        for index in range(500)
    ]
    assert len(set(places)) == 4000


@pytest.mark.parametrize("value", [0.0, 0.15])
def test_one_strength_is_kept_exactly(value: float) -> None:
    strength = identify(0, "parts", "disc", 7, {"white": Strength(value, value)}).strength
    assert strength == value
    assert type(strength) is float


def test_range_does_not_change_the_seed() -> None:
    assert disc(3).seed == identify(0, "parts", "disc", 3, {"white": Strength(0, 1)}).seed


def test_perturbations_are_equally_frequent_and_each_has_its_strengths() -> None:
    ranges = {"blobs": Strength(0.1, 0.2), "white": Strength(1, 2), "pink": Strength(3, 3)}
    found = [identify(0, "parts", "disc", index, ranges) for index in range(3000)]
    for kind, strength in ranges.items():
        chosen = [one for one in found if one.perturbation == kind]
        assert 900 < len(chosen) < 1100
        assert all(strength.low <= one.strength <= strength.high for one in chosen)
    # The seed, and with it the noise, is that of a corpus with one perturbation.
    assert [one.seed for one in found] == [disc(index).seed for index in range(3000)]
    kinds = [list(ranges).index(one.perturbation) for one in found]
    assert abs(np.corrcoef(kinds, [one.seed for one in found])[0, 1]) < 0.06
