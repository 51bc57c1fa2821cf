"""Regions against brute force, and their polygons filled again by other code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes

from sia_gen.detection.regions import find_regions


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The regions of a mask, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        waiting, region = [left.pop()], set()
        while waiting:
            y, x = waiting.pop()
            region.add((y, x))
            beside = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= beside
            waiting += beside
        regions.append(region)
    return regions


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 99))
def test_regions_are_those_of_brute_force(mask: np.ndarray, seed: int) -> None:
    anomaly_map = np.random.default_rng(seed).random(mask.shape, np.float32)
    found = find_regions(mask, anomaly_map)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    expected = []
    for region in flood(mask):
        ys, xs = zip(*region, strict=True)
        box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
        score = max(float(anomaly_map[place]) for place in region)
        expected.append((box, len(region), pytest.approx(score)))
    assert len(found) == len(expected)
    for one in found:
        assert (one.box, one.area, one.score) in expected


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_contours_enclose_their_regions(mask: np.ndarray) -> None:
    for one in find_regions(mask, mask.astype(np.float32)):
        left, top, width, height = one.box
        xs, ys = np.array(one.contour).T
        assert len(xs) >= 3
        assert (left <= xs.min(), top <= ys.min()) == (True, True)
        assert (xs.max() <= left + width, ys.max() <= top + height) == (True, True)


def test_a_filled_contour_is_the_region() -> None:
    y, x = np.mgrid[:120, :160]
    ring = (np.hypot(x - 70, y - 60) < 40) & (np.hypot(x - 70, y - 60) > 20)
    (found,) = find_regions(ring, ring.astype(np.float32))
    scale = 10
    canvas = Image.new("1", (160 * scale, 120 * scale))
    corners = [(scale * a, scale * b) for a, b in found.contour]
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    inside = np.asarray(canvas)[scale // 2 :: scale, scale // 2 :: scale]
    filled = binary_fill_holes(ring)
    # The outline runs halfway between pixels, so those beside it may go either way.
    assert (inside != filled).sum() < 0.02 * filled.sum()
    assert found.area == ring.sum()
    assert len(found.contour) < 120


def test_pixels_that_touch_at_corners_are_one_region() -> None:
    mask = np.eye(5, dtype=bool)
    (found,) = find_regions(mask, np.ones((5, 5), np.float32))
    assert (found.box, found.area) == ((0, 0, 5, 5), 5)
    assert find_regions(np.zeros((3, 3), bool), np.ones((3, 3), np.float32)) == []
