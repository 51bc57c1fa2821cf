from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sia_gen.evaluation.metrics import auroc, average_precision, f1_max, per_region_overlap

METRICS = [auroc, average_precision, f1_max]


@st.composite
def ranked(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of both classes and scores with many ties, of any sign."""
    size = draw(st.integers(2, 40))
    labels = draw(arrays.arrays(np.int64, size, elements=st.integers(0, 1)))
    labels[0], labels[-1] = 0, 1
    scores = draw(arrays.arrays(np.float64, size, elements=st.sampled_from([-3.0, 0.0, 0.1, 7.0])))
    return labels, scores


@given(ranked())
def test_auroc_and_average_precision_are_those_of_scikit_learn(
    data: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    labels, scores = data
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@given(ranked())
def test_auroc_counts_pairs(data: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    labels, scores = data
    wins = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[labels == 1]
        for low in scores[labels == 0]
    ]
    assert auroc(labels, scores) == pytest.approx(np.mean(wins), abs=1e-12)


@given(ranked())
def test_best_f1_is_reached_at_its_threshold_and_nowhere_surpassed(
    data: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    labels, scores = data
    best, threshold = f1_max(labels, scores)
    assert f1_score(labels, scores > threshold) == pytest.approx(best, abs=1e-12)
    for value in [*np.unique(scores), -10.0]:
        assert f1_score(labels, scores >= value) <= best + 1e-12


def test_scores_are_ranked_whatever_their_range() -> None:
    labels, scores = [0, 0, 1, 1], np.array([-900.0, -30.0, 20.0, 1e6])
    assert auroc(labels, scores) == 1
    assert average_precision(labels, scores) == 1
    assert f1_max(labels, scores) == (1.0, -5.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0], [0.1, 0.2], "both normal and anomalous"),
        ([1, 1], [0.1, 0.2], "both normal and anomalous"),
        ([0, 1], [0.1], "differ in shape"),
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, float("nan")], "finite"),
        ([0, 1], [0.1, float("inf")], "finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    metric: object, labels: list[int], scores: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)


def pro_by_brute_force(maps: NDArray[np.float64], masks: NDArray[np.int64], limit: float) -> float:
    """One threshold after the other, one region after the other."""
    regions = []
    for index, mask in enumerate(masks):
        components, count = label(mask, structure=np.ones((3, 3)))
        regions += [(index, components == number + 1) for number in range(count)]
    rates, overlaps = [0.0], [0.0]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        found = maps >= threshold
        rates.append(found[masks == 0].mean())
        overlaps.append(np.mean([found[index][region].mean() for index, region in regions]))
    area = 0.0
    for (x0, x1), (y0, y1) in zip(pairwise(rates), pairwise(overlaps), strict=True):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@st.composite
def scored_maps(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    masks = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 1)))
    masks[0, 0, 0], masks[0, 1, 1] = 0, 1
    scores = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0, 0.3, 5])))
    return scores, masks


@given(scored_maps(), st.sampled_from([0.05, 0.3, 1.0]))
def test_pro_is_that_of_brute_force(
    data: tuple[NDArray[np.float64], NDArray[np.int64]], limit: float
) -> None:
    maps, masks = data
    expected = pro_by_brute_force(maps, masks, limit)
    assert per_region_overlap(maps, masks, limit) == pytest.approx(expected, abs=1e-9)


def test_pro_of_continuous_scores_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 24, 24), dtype=np.int64)
    masks[0, 2:5, 2:5] = masks[0, 10:20, 10:22] = masks[1, 0, :] = masks[3, 5, 5] = 1
    maps = rng.normal(size=masks.shape) + masks
    expected = pro_by_brute_force(maps, masks, 0.3)
    assert per_region_overlap(maps, masks) == pytest.approx(expected, abs=1e-9)


def test_perfect_map_has_a_pro_of_one_and_every_region_counts_alike() -> None:
    masks = np.zeros((1, 20, 20), dtype=np.int64)
    masks[0, 0, 0] = masks[0, 5:15, 5:15] = 1
    assert per_region_overlap(masks.astype(float), masks) == pytest.approx(1, abs=1e-12)
    small_only = np.zeros(masks.shape)
    small_only[0, 0, 0] = 1
    # The other region is found with the background, in proportion.
    assert per_region_overlap(small_only, masks, 0.3) == pytest.approx(0.5 + 0.5 * 0.15, abs=1e-9)


def test_holes_of_a_mask_are_normal() -> None:
    ring = np.zeros((1, 9, 9), dtype=np.int64)
    ring[0, 2:7, 2:7] = 1
    ring[0, 4, 4] = 0
    filled = np.zeros(ring.shape)
    filled[0, 2:7, 2:7] = 1
    assert per_region_overlap(ring.astype(float), ring) == pytest.approx(1, abs=1e-12)
    assert per_region_overlap(filled, ring) < 0.99


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_limit_out_of_range_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="fpr_limit"):
        per_region_overlap(np.zeros((1, 2, 2)), np.eye(2, dtype=int)[None], limit)
