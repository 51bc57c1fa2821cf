from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sia_gen.images.counted import Scope
from sia_gen.images.squares import Area
from sia_gen.realnet.inference import load_realnet, predict_images
from tests.realnet.conftest import CPU


def test_batch_size_does_not_change_predictions(whole: Path) -> None:
    model = load_realnet(whole / "disc").model
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 64, 64), dtype=np.uint8)
    accelerator = CPU.accelerator()
    at_once, parts = (predict_images(model, images, accelerator, size) for size in (5, 2))
    np.testing.assert_allclose(at_once.maps, parts.maps, atol=1e-5)
    np.testing.assert_allclose(at_once.scores, parts.scores, atol=1e-5)


def test_scores_are_means_of_the_pixels_that_count(whole: Path) -> None:
    model = load_realnet(whole / "disc").model
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    area, counted = Area(8, 56, 0, 64), rng.random((48, 64)) > 0.3
    counted[:20, :40] = False
    scopes = [Scope(area, counted), Scope(Area.whole(64)), Scope(area)]
    plain = predict_images(model, images, CPU.accelerator())
    found = predict_images(model, images, CPU.accelerator(), scopes=scopes)
    inside = area.cut(plain.maps[0]).astype(np.float64)
    side, best = model.score_window, 0.0
    for top in range(48 - side + 1):
        for left in range(64 - side + 1):
            here = (slice(top, top + side), slice(left, left + side))
            if counted[here].mean() >= 0.5:
                best = max(best, inside[here][counted[here]].mean())
    assert found.scores[0] == pytest.approx(best, abs=1e-5)
    assert found.scores[1] == pytest.approx(plain.scores[1], abs=1e-5)
    assert (area.cut(found.maps[0])[~counted] == 0).all()
    assert np.array_equal(area.cut(found.maps[0])[counted], area.cut(plain.maps[0])[counted])
    assert np.array_equal(found.maps[1:], plain.maps[1:])
