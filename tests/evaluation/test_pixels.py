"""Pixel metrics from files, part by part, against those of arrays in memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.evaluation import pixels
from sia_gen.evaluation.pixels import append_pixels, pixel_metrics
from sia_gen.metrics import auroc, average_precision, f1_max, per_region_overlap


def images(seed: int, levels: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Maps with ties on `levels` levels, and masks of which one is empty."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, 12, 14)) > 0.8
    masks[0] = False
    maps = np.floor((rng.random(masks.shape) + 0.6 * masks) * levels) / levels
    return maps.astype(np.float32), masks


def written(folder: Path, maps: np.ndarray, masks: np.ndarray) -> tuple[list[Path], int]:
    """Two files with every other image."""
    paths = [folder / "a", folder / "b"]
    for path in paths:
        path.unlink(missing_ok=True)
    pairs = enumerate(zip(maps, masks, strict=True))
    return paths, sum(append_pixels(paths[n % 2], m, mask) for n, (m, mask) in pairs)


@given(
    seed=st.integers(0, 999), levels=st.sampled_from([1, 3, 50, 10_000]), part=st.integers(5, 900)
)
def test_metrics_are_those_of_the_whole_in_memory(
    tmp_path_factory: pytest.TempPathFactory, seed: int, levels: int, part: int
) -> None:
    maps, masks = images(seed, levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "PART", part)
        paths, regions = written(tmp_path_factory.mktemp("pixels"), maps, masks)
        found = pixel_metrics(paths, regions)
    assert found.auroc == pytest.approx(auroc(masks, maps), abs=1e-9)
    assert found.average_precision == pytest.approx(average_precision(masks, maps), abs=1e-9)
    assert found.f1_max == pytest.approx(f1_max(masks, maps)[0], abs=1e-9)
    assert found.pro == pytest.approx(per_region_overlap(maps, masks), abs=1e-9)
    assert found.pro_5 == pytest.approx(per_region_overlap(maps, masks, 0.05), abs=1e-9)
    for curve in (found.roc, found.overlap):
        assert len(curve) <= pixels.POINTS
        assert (np.diff(curve, axis=0) >= -1e-12).all()


def test_parts_are_small_and_descend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = images(0, 100_000, count=30)
    paths, _ = written(tmp_path, maps, masks)
    monkeypatch.setattr(pixels, "PART", 500)
    before = sorted(tmp_path.iterdir())
    read, fromfile = list[int](), np.fromfile

    def counting(*arguments: Any, **options: Any) -> np.ndarray:
        found = fromfile(*arguments, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(np, "fromfile", counting)
    parts = list(pixels.descending_parts(paths, maps.size))
    assert sorted(tmp_path.iterdir()) == before
    # However many parts there are.
    assert sum(read) == 3 * maps.size
    assert max(map(len, parts)) < 700
    assert sum(map(len, parts)) == maps.size
    for higher, lower in pairwise(parts):
        assert higher["score"].min() > lower["score"].max()


@pytest.mark.parametrize("value", [False, True])
def test_one_kind_of_pixel_alone_is_refused(tmp_path: Path, value: bool) -> None:
    maps, masks = images(0, 10)
    paths, regions = written(tmp_path, maps, np.full_like(masks, value))
    with pytest.raises(ValueError, match="both normal and anomalous"):
        pixel_metrics(paths, regions)


def test_memory_is_that_of_the_highest_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "PART", 10_000)
    mask = np.zeros((2000, 1000), bool)
    mask[300:320, 100:200] = mask[400:402, 0] = mask[402:410, 1] = True
    maps = np.broadcast_to(np.float32(0.5), mask.shape)
    tracemalloc.start()
    assert append_pixels(tmp_path / "pixels", maps, mask) == 2
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    areas = np.fromfile(tmp_path / "pixels", pixels.PIXEL).reshape(mask.shape)["area"]
    assert np.array_equal(areas > 0, mask)
    assert areas[310, 150] == 2000
    assert (areas[[401, 405], [0, 1]] == 10).all()


def test_memory_is_that_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "PART", 25_000)
    monkeypatch.setattr(pixels, "SAMPLE", 2000)
    mask = np.zeros((1000, 1000), bool)
    mask[300:320, 100:200] = True
    maps = np.random.default_rng(0).random(mask.shape, np.float32)
    regions = append_pixels(tmp_path / "pixels", maps, mask)
    tracemalloc.start()
    pixel_metrics([tmp_path / "pixels"], regions)
    # Their file has 8 MB.
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    (maps, *_), (mask, *_) = images(0, 10)
    maps[3, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        append_pixels(tmp_path / "a", maps, mask)
    with pytest.raises(ValueError, match="for a mask"):
        append_pixels(tmp_path / "a", np.zeros((3, 3), np.float32), mask)
