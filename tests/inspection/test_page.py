"""Figures of images, against all of them at once."""

from __future__ import annotations

import numpy as np
import pytest

from sia_gen.diffusion.readiness import noise_level
from sia_gen.inspection import page as sections
from sia_gen.inspection.page import sample_statistics


def test_statistics_are_those_of_all_images_seen_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 16), dtype=np.uint8)
    values, seen = images.astype(np.float64) / 255, list[int]()

    def watched(some: np.ndarray) -> float:
        seen.append(len(some))
        return noise_level(some)

    monkeypatch.setattr(sections, "noise_level", watched)
    assert sample_statistics(images) == {
        "mean brightness, 0 to 1": f"{values.mean():.3f}",
        "its spread between images": f"{values.mean(axis=(1, 2, 3)).std():.3f}",
        "contrast within an image": f"{values.std(axis=(1, 2, 3)).mean():.3f}",
        "noise of the finest detail": f"{noise_level(values):.4f}",
    }
    assert seen == [1] * 7
