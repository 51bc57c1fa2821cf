"""Photographs that are scored tile by tile: one map, and one score, of the whole."""

from __future__ import annotations

import csv
import json
import shutil
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
from sia_gen.errors import ImageError, ModelError, OutputError, RecipeError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.predict import predict
from sia_gen.images import strips
from sia_gen.images.counted import Scope
from sia_gen.images.grid import Grid
from sia_gen.images.loading import ImageSpec
from sia_gen.images.strips import Strips, open_scored
from sia_gen.io import arrays
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.realnet.many import predict_ahead
from sia_gen.realnet.normal import Look
from sia_gen.realnet.photographs import predict_photograph
from sia_gen.realnet.places import NormalPlaces
from sia_gen.realnet.tiling import HighestMean
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


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of noise, 100 x 160 pixels, with small scratches and their masks."""
    root = tmp_path_factory.mktemp("wide")
    for folder, first, count in (("train/good", 0, 6), ("test/good", 50, 2), ("test/cut", 60, 2)):
        (root / folder).mkdir(parents=True)
        (root / "masks").mkdir(exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng(first + number)
            image = rng.normal(120, 8, (100, 160)).clip(0, 255).astype(np.uint8)
            if folder == "test/cut":
                image[50:54, 20:60] = 0
                Image.fromarray(np.uint8(image == 0) * 255).save(root / f"masks/{number:03d}.png")
            Image.fromarray(image).save(root / folder / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def tiled(small: Recipe, wide: Path) -> Recipe:
    return small.override(
        {
            "categories": ["wide"],
            "data.images": {
                "layout": "folder",
                "normal": "train/good/*",
                "test_normal": "test/good/*",
                "test_anomalous": "test/*/*",
                "mask": "masks/{stem}.png",
            },
            "data.tile": {"size": 64, "scale": 1.0},
            "realnet.source": "dtd",
            "realnet.textures": str(wide / "train"),
            "realnet.max_steps": 2,
            "realnet.memory_size": 50,
        }
    )


@pytest.mark.parametrize("cut", [True, False])
def test_ignored_regions_count_in_no_metric(
    tiled: Recipe, wide: Path, tmp_path: Path, cut: bool
) -> None:
    """The scratches are in the left half, which is ignored."""
    half = np.zeros((100, 160), np.uint8)
    half[:, :80] = 255
    Image.fromarray(half).save(tmp_path / "left.png")
    changes: dict[str, Any] = {
        "data.ignore": str(tmp_path / "left.png"),
        "realnet.architecture": "retrieval",
    }
    recipe = tiled.override(changes | {"realnet.rrs": "all", "realnet.false_alarm_rate": 0.2})
    if not cut:
        plain = recipe.data.model_copy(update={"tile": None, "non_square": "stretch"})
        recipe = recipe.model_copy(update={"data": plain})
    fit_realnet(recipe, ["wide"], wide, tmp_path / "none", tmp_path / "realnet", CPU)
    found = evaluate(recipe, ["wide"], wide, tmp_path / "realnet", tmp_path / "evaluation", CPU)
    metrics = found["categories"]["wide"]
    assert metrics["masked_images"] == 2
    assert metrics["pixel_auroc"] is None
    found_in = Detector.load(tmp_path / "realnet/wide", CPU).predict(wide / "test/cut/000.png")
    assert (found_in.anomaly_map[:, :70] == 0).all()
    assert found_in.anomaly_map[:, 90:].max() > 0


@pytest.mark.parametrize("architecture", ["independent", "retrieval", "retrieval by position"])
def test_fit_evaluate_and_predict_on_tiles(
    tiled: Recipe, wide: Path, tmp_path: Path, architecture: str
) -> None:
    architecture, position = architecture.split()[0], " " in architecture
    changes: dict[str, Any] = {
        "realnet.architecture": architecture,
        "realnet.false_alarm_rate": 0.2,
        "realnet.position": position,
    }
    if architecture == "retrieval":
        changes["realnet.rrs"] = "all"
    recipe = tiled.override(changes)
    fit_realnet(recipe, ["wide"], wide, tmp_path / "none", tmp_path / "realnet", CPU)
    report = json.loads((tmp_path / "realnet/wide/fit.json").read_text())
    # Photographs count, not tiles: of a memory all of them, else those held out.
    assert report["false_alarms"]["images"] == (6 if architecture == "retrieval" else 2)
    model = load_realnet(tmp_path / "realnet/wide").model
    if model.memory is not None:
        assert set(model.memory.numbers.tolist()) <= set(range(4))
    assert (model.places is not None) == position
    if model.places is not None:
        assert float(model.places.deviations.min()) >= 0.25
        assert model.places.means.unique().numel() > 1
    # The recipe of the model counts, not that of the evaluation.
    plain = recipe.model_copy(update={"data": recipe.data.model_copy(update={"tile": None})})
    found = evaluate(plain, ["wide"], wide, tmp_path / "realnet", tmp_path / "evaluation", CPU)
    metrics = found["categories"]["wide"]
    assert (metrics["normal_images"], metrics["anomalous_images"]) == (2, 2)
    assert metrics["pixel_auroc"] is not None
    found_in = tmp_path / "predictions"
    counts = predict(tmp_path / "realnet/wide", [wide / "test"], found_in, CPU)
    assert counts.photographs == 4
    with Image.open(found_in / "heatmaps/cut/000.png") as heatmap:
        assert heatmap.size == (160, 100)
    # Scores are those of the evaluation.
    by_name = scores_in(tmp_path / "evaluation/wide/scores.csv")
    for path, score in scores_in(found_in / "predictions.csv").items():
        assert score == pytest.approx(by_name[Path(path).relative_to(wide).as_posix()], abs=1e-5)


def scores_in(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"realnet.architecture": "retrieval"}, "needs photographs that are cut into tiles"),
        ({"data.tile.size": 16}, "'position' applies to retrieval"),
    ],
)
def test_positions_are_those_of_a_retrieval_in_photographs(
    small: Recipe, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        small.override({"realnet.position": True, **changes})


def test_test_images_smaller_than_a_tile_are_refused_before_anything_is_written(
    tiled: Recipe, wide: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(wide, root)
    Image.new("L", (160, 60)).save(root / "test/good/low.png")
    save_detector(tmp_path / "models/wide")
    (tmp_path / "models/wide/recipe.yaml").write_text(tiled.to_yaml())
    with pytest.raises(ImageError, match=r"low.png is 160 x 60 pixels, less than a tile of 64"):
        evaluate(tiled, ["wide"], root, tmp_path / "models", tmp_path / "evaluation", CPU)
    assert not (tmp_path / "evaluation").exists()
    # A prediction says it of this image, after it has scored the others.
    with pytest.raises(ImageError, match="1 of 5 images were not scored"):
        predict(tmp_path / "models/wide", [root / "test"], tmp_path / "found", CPU)
    assert len((tmp_path / "found/predictions.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("roi", r"low.png is 160 x 90 pixels, but the region of interest ends at 160, 100"),
        ("ignore", r"low.png: the mask .* is 160 x 100 pixels, its image 160 x 90"),
    ],
)
def test_what_does_not_fit_test_images_is_refused_before_anything_is_written(
    tiled: Recipe, wide: Path, tmp_path: Path, cut: bool, setting: str, told: str
) -> None:
    root = tmp_path / "images"
    shutil.copytree(wide, root)
    Image.new("L", (160, 90)).save(root / "test/good/low.png")
    Image.new("L", (160, 100)).save(tmp_path / "mask.png")
    values = {"roi": (0, 0, 160, 100), "ignore": str(tmp_path / "mask.png")}
    changes: dict[str, Any] = {setting: values[setting]}
    if not cut:
        changes |= {"tile": None, "non_square": "stretch"}
    recipe = tiled.model_copy(update={"data": tiled.data.model_copy(update=changes)})
    save_detector(tmp_path / "models/wide")
    (tmp_path / "models/wide/recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(ImageError, match=told):
        evaluate(recipe, ["wide"], root, tmp_path / "models", tmp_path / "evaluation", CPU)
    assert not (tmp_path / "evaluation").exists()


def test_predictions_depend_on_the_mask_of_what_to_ignore(
    tiled: Recipe, wide: Path, tmp_path: Path
) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "found"
    save_detector(tmp_path / "model")
    recipe = tiled.override({"data.ignore": str(mask)})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    photographs = [wide / "test/good"]
    with pytest.raises(ImageError, match="there is no mask"):
        predict(tmp_path / "model", photographs, out, CPU, save="none")
    # Else the photographs would count as unreadable, also once the mask is there.
    assert not out.exists()
    Image.new("L", (160, 100)).save(mask)
    predict(tmp_path / "model", photographs, out, CPU, save="none")
    Image.fromarray(np.eye(100, 160, dtype=np.uint8) * 255).save(mask)
    with pytest.raises(OutputError, match="predictions with another ignore"):
        predict(tmp_path / "model", photographs, out, CPU, save="none")
