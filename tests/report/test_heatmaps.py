from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.report import pictures
from sia_gen.report.pictures import overlay, save_heatmap

GREY = np.full((1, 4, 5), 100, dtype=np.uint8)


def test_nothing_is_coloured_where_nothing_is_anomalous() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    found = np.asarray(overlay(colour, np.zeros((4, 5), np.float32)))
    assert np.array_equal(found, colour.transpose(1, 2, 0))
    assert (np.asarray(overlay(GREY, np.zeros((4, 5), np.float32))) == 100).all()


def test_the_likelier_an_anomaly_the_redder() -> None:
    shares = np.linspace(0, 1, 5, dtype=np.float32)
    picture = np.asarray(overlay(GREY, np.tile(shares, (4, 1)))).astype(int)
    redness = picture[0, :, 0] - picture[0, :, 2]
    assert (np.diff(redness)[:2] > 0).all()
    # Half is as sure as it gets.
    assert (picture[0, 2] == picture[0, 4]).all()
    assert redness[2] > 100


def test_saved_picture_shows_image_and_map_side_by_side(tmp_path: Path) -> None:
    anomaly_map = np.zeros((4, 5), np.float32)
    anomaly_map[1, 2] = 1
    save_heatmap(tmp_path / "map.png", GREY, anomaly_map)
    with Image.open(tmp_path / "map.png") as file:
        pixels = np.asarray(file)
    assert pixels.shape == (4, 10, 3)
    assert (pixels[:, :5] == 100).all()
    changed = np.argwhere((pixels[:, 5:] != 100).any(axis=-1))
    assert changed.tolist() == [[1, 2]]


def test_large_pictures_are_reduced_without_losing_a_pixel_that_is_anomalous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "LONGEST", 10)
    image, anomaly_map = np.full((1, 23, 31), 100, np.uint8), np.zeros((23, 31), np.float32)
    anomaly_map[22, 17] = 1
    save_heatmap(tmp_path / "map.png", image, anomaly_map)
    with Image.open(tmp_path / "map.png") as file:
        pixels = np.asarray(file)
    # Every fourth of 31 columns and of 23 rows.
    assert pixels.shape == (6, 16, 3)
    changed = np.argwhere((pixels[:, 8:] != 100).any(axis=-1))
    assert changed.tolist() == [[5, 4]]
