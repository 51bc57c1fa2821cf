"""PNG files of which some rows come at a time have the pixels that went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sia_gen.report.png import write_png


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.sampled_from([1, 3]),
    rows=st.integers(1, 31),
)
def test_pillow_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, channels: int, rows: int
) -> None:
    path: Path = tmp_path_factory.mktemp("png") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    bands = (pixels[top : top + rows] for top in range(0, height, rows))
    write_png(path, pixels.shape, bands)
    with Image.open(path) as file:
        assert file.mode == ("RGB" if channels == 3 else "L")
        found = np.asarray(file)
    assert np.array_equal(found.reshape(pixels.shape), pixels)
