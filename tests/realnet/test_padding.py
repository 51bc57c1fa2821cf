"""Pixels of the padding never count: in scores, in maps, in what is normal and in validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen import RealNet
from sia_gen.anomalies.sources import open_sources
from sia_gen.config.recipe import Recipe
from sia_gen.images.counted import Scope
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_image
from sia_gen.images.squares import Area
from sia_gen.metrics import average_precision
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.realnet.model import separate_maps
from sia_gen.realnet.preparation import fit_data, load_normal
from sia_gen.realnet.selection import validate
from tests.conftest import photograph
from tests.realnet.conftest import CPU
from tests.small_networks import save_detector

AREAS = [Area(16, 48, 0, 64), Area(0, 64, 10, 30), Area(30, 32, 0, 64), Area.whole(64)]


@pytest.fixture(params=["independent", "retrieval"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> RealNet:
    options: dict[str, Any] = {}
    if request.param == "retrieval":
        options = {"architecture": "retrieval", "memory_size": 20, "rrs": "all"}
    save_detector(tmp_path / "model", **options)
    return load_realnet(tmp_path / "model").model


def pixels(count: int = len(AREAS)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 64, 64), np.uint8)


def expected_score(model: RealNet, anomaly_map: np.ndarray, area: Area) -> float:
    """The best mean over a window inside the area, by brute force in float64."""
    values = anomaly_map.astype(np.float64)[area.top : area.bottom, area.left : area.right]
    if model.fusion is not None:
        values = np.sinh(np.log(values / (1 - values)))
    window = min(model.score_window, *values.shape)
    views = np.lib.stride_tricks.sliding_window_view(values, (window, window))
    best = views.mean(axis=(2, 3)).max()
    return float(best if model.fusion is None else 1 / (1 + np.exp(-np.arcsinh(best))))


def test_score_is_that_of_the_map_inside(model: RealNet) -> None:
    found = predict_images(model, pixels(), CPU.accelerator(), scopes=list(map(Scope, AREAS)))
    for score, anomaly_map, area in zip(found.scores, found.maps, AREAS, strict=True):
        assert score == pytest.approx(expected_score(model, anomaly_map, area), abs=2e-3)


def test_score_of_a_whole_image_is_as_without_areas(model: RealNet) -> None:
    accelerator = CPU.accelerator()
    whole = [Scope(Area.whole(64))] * len(AREAS)
    plain = predict_images(model, pixels(), accelerator)
    found = predict_images(model, pixels(), accelerator, batch_size=3, scopes=whole)
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-4)
    np.testing.assert_allclose(found.maps, plain.maps, atol=1e-5)


def test_normal_scores_are_measured_inside(tmp_path: Path) -> None:
    save_detector(tmp_path / "m", architecture="retrieval", memory_size=20, rrs="all")
    model = load_realnet(tmp_path / "m").model
    images = torch.from_numpy(pixels()).float() / 255
    values = []
    with torch.no_grad():
        features = model.selected_features(images)
        reconstructed = model.reconstruct(features)
        logits = model.decode(features, reconstructed, images.shape[-2:]).float()
        maps = separate_maps(features[0], reconstructed[0], logits)
    for one, area in zip(maps, AREAS, strict=True):
        inside = one[:, area.top : area.bottom, area.left : area.right]
        values.append(inside.flatten(1).double())
    expected = torch.cat(values, dim=1)
    model.measure_normal([images[:3], images[3:]], AREAS)
    assert model.fusion is not None
    means = expected.mean(dim=1).float()
    torch.testing.assert_close(model.fusion.means, means, rtol=1e-4, atol=1e-4)
    deviations = expected.std(dim=1, correction=0).clamp(min=1e-3).float()
    torch.testing.assert_close(model.fusion.deviations, deviations, rtol=1e-3, atol=1e-4)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Photographs of 64 x 32 pixels, and of 32 x 64."""
    (tmp_path / "wide/disc/train/good").mkdir(parents=True)
    for number in range(8):
        picture = photograph(number)
        both = Image.new("L", (64, 32))
        both.paste(picture, (0, 0))
        both.paste(photograph(number + 50), (32, 0))
        if number % 2:
            both = both.transpose(Image.Transpose.ROTATE_90)
        both.save(tmp_path / f"wide/disc/train/good/{number}.png")
    return tmp_path / "wide"


@pytest.fixture
def padded(recipe: Recipe) -> Recipe:
    return recipe.override(
        {"categories": ["disc"], "data.non_square": "pad", "data.validation_fraction": 0.4}
    )


def test_anomalies_are_pasted_into_the_picture_alone(
    padded: Recipe, wide: Path, corpus: Path
) -> None:
    listed = list_images(padded, wide, "disc")
    data = fit_data(
        padded, load_normal(padded, {"disc": listed}), [open_sources(padded, "disc", corpus)]
    )
    for part, paths in ((data.fit, listed.fit), (data.validation, listed.validation)):
        assert part.areas is not None
        for index, path in enumerate(paths):
            expected = load_image(path, ImageSpec.of(padded, 64))
            assert np.array_equal(part.normal[index], expected)
            area, marked = part.areas[index], 0.0
            for number in range(8):
                rng = np.random.default_rng(number)
                anomalous, normal, mask = part.sample(index, rng, number)
                outside = np.ones((64, 64), bool)
                outside[area.top : area.bottom, area.left : area.right] = False
                assert outside.sum() == 64 * 32
                assert not mask[0][outside].any()
                assert np.array_equal(anomalous[0][outside], normal[0][outside])
                marked += mask.sum()
            assert marked > 0


def test_validation_is_on_the_picture_alone(
    padded: Recipe, wide: Path, corpus: Path, tmp_path: Path
) -> None:
    save_detector(tmp_path / "m")
    model, accelerator = load_realnet(tmp_path / "m").model, CPU.accelerator()
    listed = list_images(padded, wide, "disc")
    normal = load_normal(padded, {"disc": listed})
    data = fit_data(padded, normal, [open_sources(padded, "disc", corpus)])
    validation = data.validation
    masks, maps = [], []
    for index in range(len(validation.normal)):
        made, _, mask = validation.sample(index, np.random.default_rng((1, index)), index)
        (anomaly_map,) = predict_images(model, made[None], accelerator).maps
        assert validation.areas is not None
        masks.append(validation.areas[index].cut(mask[0]).ravel() > 0)
        maps.append(validation.areas[index].cut(anomaly_map).ravel())
    expected = average_precision(np.concatenate(masks), np.concatenate(maps))
    found = validate(data, model, accelerator)
    assert found["pixel_average_precision"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("architecture", ["independent", "retrieval"])
def test_padded_photographs_are_fitted(
    padded: Recipe, wide: Path, corpus: Path, tmp_path: Path, architecture: str
) -> None:
    rrs = "all" if architecture == "retrieval" else "both"
    changes = {"realnet.architecture": architecture, "realnet.rrs": rrs}
    chosen = padded.override({**changes, "realnet.memory_size": 50})
    fit_realnet(chosen, ["disc"], wide, corpus, tmp_path / "out", CPU)
    report = json.loads((tmp_path / "out/disc/fit.json").read_text())
    assert np.isfinite(report["threshold"])
    assert Recipe.load(tmp_path / "out/disc/recipe.yaml").data.non_square == "pad"
