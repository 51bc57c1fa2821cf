"""Masks of what differs beyond chance, against counting and the closed form of the quantile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sia_gen.twins.masks import (
    QUANTILE,
    SMALLEST_ANYWHERE,
    ChanceLimits,
    chance_threshold,
    change_mask,
    smoothed,
    without_specks,
)


def test_threshold_is_the_quantile_of_a_gumbel_distribution() -> None:
    peaks = stats.gumbel_r.rvs(3, 0.5, size=100_000, random_state=0)
    # The largest peak counts too; below it is the quantile that was asked for.
    kept = peaks[peaks < stats.gumbel_r.ppf(QUANTILE, 3, 0.5)]
    scale = kept.std(ddof=1) * np.sqrt(6) / np.pi
    expected = kept.mean() - np.euler_gamma * scale - scale * np.log(-np.log(QUANTILE))
    assert chance_threshold(kept) == pytest.approx(max(expected, kept.max()))
    few = stats.gumbel_r.rvs(3, 0.5, size=64, random_state=1)
    assert chance_threshold(few) == pytest.approx(stats.gumbel_r.ppf(QUANTILE, 3, 0.5), rel=0.15)


def test_hardly_any_undisturbed_image_gets_a_mask() -> None:
    rng = np.random.default_rng(0)

    def image() -> np.ndarray:
        return smoothed(rng.gamma(2, 1, (64, 64)).astype(np.float32))

    maps = np.stack([image() for _ in range(64)])
    limits = ChanceLimits.of(maps)
    assert np.mean(maps.max(axis=(1, 2)) < limits.typical) == 0.5
    assert limits.largest >= maps.max() > limits.typical
    empty = [not change_mask(image(), [limits]).any() for _ in range(500)]
    assert np.mean(empty) >= 0.99


def test_within_regions_less_is_beyond_chance_and_hardly_any_gets_a_mask() -> None:
    rng = np.random.default_rng(0)

    def image() -> np.ndarray:
        # A few places vary much more than the rest.
        found = rng.gamma(2, 1, (64, 64)).astype(np.float32)
        found[::16, ::16] *= 20
        return smoothed(found)

    def region() -> np.ndarray:
        mask = np.zeros((64, 64), bool)
        top, left = rng.integers(0, 48, 2)
        mask[top : top + 12, left : left + 12] = True
        return mask

    maps = np.stack([image() for _ in range(64)])
    limits = ChanceLimits.within([one[region()].max() for one in maps for _ in range(8)])
    assert limits.largest < ChanceLimits.of(maps).largest
    empty = [not change_mask(image(), [limits], region()[None]).any() for _ in range(2000)]
    assert np.mean(empty) >= 0.99
    # What covers two pixels counts.
    small = np.zeros((64, 64), np.float32)
    small[20, 20:22] = 2 * limits.largest
    assert change_mask(small, [limits], small[None] > 0).sum() == 2
    assert not change_mask(small, [limits]).any()


def test_region_that_differs_is_found_where_it_is() -> None:
    distances = np.zeros((64, 64), np.float32)
    distances[10:30, 20:50] = 5
    mask = change_mask(smoothed(distances), [ChanceLimits(2.5, 2.5)])
    np.testing.assert_allclose(mask[12:28, 22:48], True)
    outside = mask.copy()
    outside[9:31, 19:51] = False
    assert not outside.any()


def test_change_in_a_region_reaches_as_far_as_it_is_more_than_chance_is_as_a_rule() -> None:
    distances = np.zeros((64, 64), np.float32)
    distances[10:30, 20:50] = 2
    distances[18:24, 30:36] = 5
    # As strong as the rim of the first, and nothing in it is certain.
    distances[45:60, 5:25] = 2
    limits, region = ChanceLimits(1, 4), np.zeros((64, 64), bool)
    assert change_mask(distances, [limits]).sum() == 6 * 6
    region[:, :34] = True
    mask = change_mask(distances, [limits], region[None])
    assert mask[10:30, 20:34].all()
    assert mask.sum() == 20 * 14


def test_each_cause_has_a_limit_of_its_own() -> None:
    distances = np.zeros((64, 64), np.float32)
    distances[10:20, 10:20] = distances[10:20, 40:50] = 3
    noise, edit = np.zeros((2, 64, 64), bool)
    noise[:, :32], edit[:, 32:] = True, True
    limits = [ChanceLimits(1, 2), ChanceLimits(2, 4)]
    mask = change_mask(distances, limits, np.stack([noise, edit]))
    assert np.array_equal(mask, (distances > 0) & noise)


def test_holes_are_filled_and_nothing_leaves_the_region() -> None:
    distances = np.zeros((64, 64), np.float32)
    distances[10:40, 10:40] = 5
    distances[24:27, 24:27] = 0
    assert change_mask(distances, [ChanceLimits(1, 1)])[10:40, 10:40].all()
    region = np.zeros((64, 64), bool)
    region[:25] = True
    region[20, 20] = False
    mask = change_mask(distances, [ChanceLimits(1, 1)], region[None])
    assert not mask[~region].any()
    assert mask[12:19, 12:38].all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.6))
def test_specks_are_what_flood_filling_finds(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((40, 40)) < share
    expected = np.zeros_like(mask)
    seen = np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        region, left = [start], [start]
        while left:
            row, column = left.pop()
            for r in range(max(0, row - 1), min(40, row + 2)):
                for c in range(max(0, column - 1), min(40, column + 2)):
                    if mask[r, c] and not seen[r, c]:
                        seen[r, c] = True
                        region.append((r, c))
                        left.append((r, c))
        if len(region) >= SMALLEST_ANYWHERE * mask.size:
            expected[tuple(np.transpose(region))] = True
    np.testing.assert_array_equal(without_specks(mask, SMALLEST_ANYWHERE), expected)
