from __future__ import annotations

from pathlib import Path

import numpy as np

from sia_gen.realnet.inference import load_realnet, predict_images
from tests.realnet.conftest import CPU


def test_batch_size_does_not_change_predictions(whole: Path) -> None:
    model = load_realnet(whole / "disc").model
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 64, 64), dtype=np.uint8)
    accelerator = CPU.accelerator()
    at_once, parts = (predict_images(model, images, accelerator, size) for size in (5, 2))
    np.testing.assert_allclose(at_once.maps, parts.maps, atol=1e-5)
    np.testing.assert_allclose(at_once.scores, parts.scores, atol=1e-5)
