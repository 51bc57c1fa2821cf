"""Photographs that are scored tile by tile: one map, and one score, of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen import Detector, RealNet
from sia_gen.config.data import Tile
from sia_gen.config.recipe import Recipe
from sia_gen.detection.detection import Detection
from sia_gen.errors import ImageError, ModelError
from sia_gen.images import strips
from sia_gen.images.counted import Scope
from sia_gen.images.grid import Grid
from sia_gen.images.loading import ImageSpec
from sia_gen.images.strips import Strips, open_scored
from sia_gen.io import arrays
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.realnet.many import predict_ahead
from sia_gen.realnet.normal import Look
from sia_gen.realnet.photographs import predict_photograph
from sia_gen.realnet.places import NormalPlaces
from tests.realnet.conftest import CPU
from tests.small_networks import save_detector

TILE = Tile(size=64, overlap=16)


@pytest.fixture(params=["independent", "retrieval"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> RealNet:
    options: dict[str, Any] = {}
    if request.param == "retrieval":
        options = {"architecture": "retrieval", "memory_size": 20, "rrs": "all"}
    save_detector(tmp_path / "model", **options)
    return load_realnet(tmp_path / "model").model


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, *shape), np.uint8)


def test_photograph_of_one_tile_scores_as_an_image(model: RealNet) -> None:
    image = pixels(64, 64)
    score, anomaly_map = predict_photograph(model, image, TILE, CPU.accelerator())
    plain = predict_images(model, image[None], CPU.accelerator())
    assert score == pytest.approx(float(plain.scores[0]), abs=1e-5)
    np.testing.assert_allclose(anomaly_map, plain.maps[0], rtol=0, atol=1e-5)


def test_map_and_score_are_those_of_blended_tiles(model: RealNet) -> None:
    photograph = pixels(150, 100)
    score, anomaly_map = predict_photograph(model, photograph, TILE, CPU.accelerator())
    grid = Grid.of((150, 100), TILE)
    tiles = np.stack([photograph[:, top : top + 64, left : left + 64] for top, left in grid.places])
    maps = predict_images(model, tiles, CPU.accelerator()).maps.astype(np.float64)
    if model.fusion is not None:
        maps = np.sinh(np.log(maps / (1 - maps)))
    expected = np.concatenate(list(grid.blended(maps)))
    views = np.lib.stride_tricks.sliding_window_view(expected.astype(np.float64), (16, 16))
    best = views.mean(axis=(2, 3)).max()
    if model.fusion is not None:
        expected, best = (1 / (1 + np.exp(-np.arcsinh(one))) for one in (expected, best))
    assert score == pytest.approx(best, abs=2e-3)
    np.testing.assert_allclose(anomaly_map, expected, rtol=0, atol=2e-3)


def test_pixels_far_from_other_tiles_are_those_of_their_own(model: RealNet) -> None:
    photograph = pixels(64, 200)
    anomaly_map = predict_photograph(model, photograph, TILE, CPU.accelerator())[1]
    first = predict_images(model, photograph[None, :, :, :64], CPU.accelerator()).maps[0]
    np.testing.assert_allclose(anomaly_map[:, :48], first[:, :48], rtol=0, atol=1e-5)


def test_tiles_of_another_size_than_the_model_takes(model: RealNet) -> None:
    tile = Tile(size=32, overlap=8)
    photograph = pixels(48, 64)
    _, anomaly_map = predict_photograph(model, photograph, tile, CPU.accelerator())
    assert anomaly_map.shape == (48, 64)
    small = Image.fromarray(photograph[0, :32, :32]).resize((64, 64), Image.Resampling.BICUBIC)
    found = predict_images(model, np.array(small)[None, None], CPU.accelerator()).maps[0]
    # Far from the next tiles; what a bilinear filter takes from four pixels.
    reduced = found.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(anomaly_map[:20, :20], reduced[:20, :20], rtol=0, atol=0.02)


def test_maps_of_nan_are_refused(model: RealNet) -> None:
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(np.nan)
        if model.fusion is not None:
            for buffer in model.fusion.buffers():
                buffer.fill_(np.nan)
    with pytest.raises(ModelError, match="scores of the model are NaN"):
        predict_photograph(model, pixels(64, 100), TILE, CPU.accelerator())


def test_what_is_ignored_does_not_change_score_and_map(model: RealNet) -> None:
    photograph, counted = pixels(64, 100), np.ones((64, 100), bool)
    accelerator = CPU.accelerator()
    whole = predict_photograph(model, photograph, TILE, accelerator)
    every = predict_photograph(model, photograph, TILE, accelerator, counted=counted)
    assert every[0] == pytest.approx(whole[0], abs=1e-5)
    counted[:, 40:60] = False
    _, anomaly_map = predict_photograph(model, photograph, TILE, accelerator, counted=counted)
    assert (anomaly_map[~counted] == 0).all()
    assert np.array_equal(anomaly_map[counted], whole[1][counted])


def test_photographs_are_yielded_in_their_own_size(model: RealNet) -> None:
    photographs = {"a": pixels(64, 90), "b": pixels(100, 64, seed=1)}

    def load(name: str) -> tuple[np.ndarray, Scope, str]:
        return photographs[name], Scope.of(photographs[name]), name

    found = list(predict_ahead(model, list(photographs), load, CPU.accelerator(), TILE))
    assert [name for name, *_ in found] == ["a", "b"]
    for name, extra, score, anomaly_map in found:
        assert extra == name
        assert anomaly_map.shape == photographs[name].shape[1:]
        assert 0 <= score <= 1


@pytest.mark.parametrize("position", [False, True])
def test_what_is_read_in_strips_scores_as_in_memory(
    model: RealNet, position: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(strips, "ROWS", 16)
    monkeypatch.setattr(arrays, "LARGEST", 1000)
    if position:
        model.places = NormalPlaces()
        model.places.means.copy_(torch.rand(32, 32))
    photograph = pixels(190, 100)
    Image.fromarray(photograph[0]).save(tmp_path / "photograph.png")
    accelerator = CPU.accelerator()
    score, anomaly_map = predict_photograph(model, photograph, TILE, accelerator)
    opened, _ = open_scored(tmp_path / "photograph.png", ImageSpec("L", 64, tile=TILE))
    assert isinstance(opened, Strips)
    again, from_strips = predict_photograph(model, opened, TILE, accelerator)
    assert again == score
    assert np.array_equal(from_strips, anomaly_map)
    assert Look.of(opened, score, from_strips) == Look.of(photograph, score, anomaly_map)


def test_detectors_read_large_photographs_in_strips(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_detector(tmp_path / "model")
    recipe = small.override({"data.tile": {"size": 64, "overlap": 16}})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    path = tmp_path / "photograph.tif"
    Image.fromarray(pixels(190, 100)[0]).save(path)
    detector = Detector.from_pretrained(tmp_path / "model", device="cpu", precision="fp32")
    whole = detector.predict(path)
    monkeypatch.setattr(strips, "LARGE_PIXELS", 1000)
    found = detector.predict(path)
    assert isinstance(detector.take(path).pixels, Strips)
    assert (found.look, found.size, found.doubts) == (whole.look, whole.size, whole.doubts)
    assert np.array_equal(found.anomaly_map, whole.anomaly_map)
    # Damage far down comes to light while it is scored, and is that of one photograph.
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(path.read_bytes()[:12_000])
    first, second, third = detector.stream([path, damaged, path])
    assert isinstance(second, ImageError)
    assert "damaged.tif" in second.problem
    for one in (first, third):
        assert isinstance(one, Detection)
        assert one.score == whole.score
