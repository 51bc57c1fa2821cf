"""The score of a photograph is the highest mean over a square of its map."""

from __future__ import annotations

import numpy as np
import pytest

from sia_gen.realnet.tiling import HighestMean


def highest_mean(
    values: np.ndarray, window: int, counted: np.ndarray | None = None, every: int = 10_000
) -> float:
    """That of a map that comes some rows at a time."""
    height, width = values.shape
    highest = HighestMean(window, (height, width))
    for top in range(0, height, every):
        here = slice(top, top + every)
        highest.add(values[here], None if counted is None else counted[here])
    return highest.finish()


@pytest.mark.parametrize("shape", [(40, 50), (16, 16), (3000, 20), (1024 + 15, 16)])
@pytest.mark.parametrize("window", [1, 15, 16])
def test_highest_mean_by_brute_force(shape: tuple[int, int], window: int) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    views = np.lib.stride_tricks.sliding_window_view(values, (window, window))
    found = highest_mean(values, window)
    assert highest_mean(values, window, every=7) == found
    assert found == pytest.approx(views.mean(axis=(2, 3)).max(), abs=1e-12)


def test_pixels_that_do_not_count_are_in_no_mean() -> None:
    rng = np.random.default_rng(0)
    values, counted = rng.normal(size=(60, 50)), rng.random((60, 50)) > 0.3
    counted[20:45, 10:40] = False
    values[~counted] = 1000
    best = -np.inf
    for top in range(60 - 7):
        for left in range(50 - 7):
            here = (slice(top, top + 8), slice(left, left + 8))
            if counted[here].mean() >= 0.5:
                best = max(best, values[here][counted[here]].mean())
    found = highest_mean(values, 8, counted, every=11)
    assert float(found) == pytest.approx(best, abs=1e-12)


def test_where_few_pixels_count_those_in_most_of_a_square_do() -> None:
    rng = np.random.default_rng(0)
    values, counted = rng.normal(size=(60, 50)), np.zeros((60, 50), bool)
    # Rows of 3 and 2 pixels of the 8 in a square.
    counted[10:13] = counted[30:32] = True
    values[30:32] = 1000
    best = max(values[10:13, left : left + 8].mean() for left in range(50 - 7))
    assert highest_mean(values, 8, counted, every=11) == pytest.approx(best, abs=1e-12)
