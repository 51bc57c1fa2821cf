"""Pictures of several shapes, in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.images import store


def disc_pictures(folder: Path, shapes: Sequence[tuple[int, int]]) -> list[Path]:
    """Pictures of a height and a width, each of a bright disc on dark noise."""
    paths = []
    for number, (height, width) in enumerate(shapes):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < 100
        pixels = (40 + 150 * disc + rng.normal(0, 5, disc.shape)).astype(np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(params=["memory", "files"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether images are held in memory, or read from their files again and again."""
    if request.param == "files":
        monkeypatch.setattr(store, "MEMORY", 0)
    return request.param
