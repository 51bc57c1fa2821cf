"""Strokes: thin curves with soft edges, which pieces are pasted through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from sia_gen.anomalies import paste, strokes
from sia_gen.anomalies.paste import LocalAnomalies, local_mask
from sia_gen.anomalies.strokes import shade_of, softened, stroke_mask
from tests.anomalies.conftest import ArraySource

SIZE = 128
NORMAL = np.full((3, 1, SIZE, SIZE), 100, np.uint8)
PIECES = np.random.default_rng(0).integers(150, 250, (4, 1, SIZE, SIZE), np.uint8)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def anomalies(fraction: float) -> LocalAnomalies:
    return LocalAnomalies(NORMAL, [ArraySource(PIECES)], stroke_fraction=fraction)


def test_strokes_are_seeded_binary_thin_and_mostly_in_one_piece() -> None:
    widest, pieces = 0.0, []
    for seed in range(100):
        mask = stroke_mask(rng(seed), SIZE)
        assert mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert np.array_equal(mask, stroke_mask(rng(seed), SIZE))
        padded = np.pad(mask, 1)
        widest = max(widest, float(distance_transform_edt(padded).max()))
        pieces.append(label(mask, np.ones((3, 3)))[1])
    assert 1 < widest < 4 * strokes.HALF_WIDTH[1] * SIZE
    assert np.median(pieces) == 1


def test_strokes_point_everywhere_and_have_many_lengths() -> None:
    extents = []
    for seed in range(200):
        rows, columns = np.nonzero(stroke_mask(rng(seed), SIZE))
        if len(rows):
            extents.append((np.ptp(rows), np.ptp(columns)))
    tall, wide = np.array(extents).T
    assert 0.3 < np.mean(tall > wide) < 0.7
    assert np.quantile(np.maximum(tall, wide), 0.1) < 0.2 * SIZE
    assert np.quantile(np.maximum(tall, wide), 0.9) > 0.4 * SIZE


def test_strokes_lie_in_the_foreground() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[:, 40:80, 30:90] = 1
    for seed in range(30):
        mask = local_mask(rng(seed), SIZE, foreground, stroke_mask)
        assert mask.any()
        assert not mask[foreground == 0].any()


@pytest.mark.parametrize(("fraction", "fewest", "most"), [(0, 0, 0), (0.5, 80, 120), (1, 200, 200)])
def test_the_given_share_of_the_pieces_is_pasted_through_strokes(
    fraction: float, fewest: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def counted(generator: np.random.Generator, size: int) -> np.ndarray:
        drawn.append(size)
        return np.ones((size, size), np.float32)

    monkeypatch.setattr(paste, "stroke_mask", counted)
    for seed in range(200):
        anomalies(fraction).sample(0, rng(seed), 0)
    assert fewest <= len(drawn) <= most


def test_edges_of_strokes_are_soft_and_what_is_far_stays() -> None:
    soft = 0
    for seed in range(20):
        made, normal, mask = replace(anomalies(1.0), normal=NORMAL[:1]).sample(0, rng(seed), 0)
        outside = distance_transform_edt(mask[0] == 0)
        changed = np.abs(made - normal)[0] > 0
        assert not changed[outside > 5 * strokes.BLUR].any()
        soft += bool(changed[(outside > 0) & (outside < 2)].any())
    assert soft > 10


def test_soft_edges_do_not_leave_the_foreground() -> None:
    foreground = np.zeros((1, SIZE, SIZE), np.uint8)
    foreground[:, 40:80, 30:90] = 1
    inside = replace(anomalies(1.0), normal=NORMAL[:1], foreground=foreground[None])
    for seed in range(10):
        made, normal, _ = inside.sample(0, rng(seed), 0)
        assert (made == normal)[foreground == 0].all()
        assert (made != normal).any()


def test_softening_keeps_the_sum_and_does_not_mix_channels() -> None:
    mask = np.zeros((1, 64, 64), np.float32)
    mask[0, 20:40, 30] = 1
    found = softened(rng(1), mask)
    assert found.shape == mask.shape
    assert float(found.sum()) == pytest.approx(20, rel=1e-3)
    assert 0 < float(found.max()) <= 1


def test_a_shade_is_that_of_a_pixel() -> None:
    pixels = PIECES[0].astype(np.float32)
    found = shade_of(rng(2), np.concatenate([pixels, pixels + 1]))
    assert found.shape == (2, SIZE, SIZE)
    assert np.unique(found[0]).size == 1
    assert found[0, 0, 0] in pixels
    assert found[1, 0, 0] == found[0, 0, 0] + 1
