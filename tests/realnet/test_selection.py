"""The selection of weights and threshold: on photographs held out and anomalies never learned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Twin
from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_test_images
from sia_gen.metrics import auroc, f1_max
from sia_gen.realnet import many, selection
from sia_gen.realnet.inference import Predictions, load_realnet, predict_images
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.preparation import FitData
from sia_gen.realnet.selection import Best, threshold_for, validate, validate_on_test
from tests.realnet.conftest import CPU, data_of

SIDE = 32
PHOTOGRAPH, GENERATED, DEFECT = 250, 100, 120


class Output(NamedTuple):
    """What is read of a model's output."""

    score: torch.Tensor
    anomaly_map: torch.Tensor


class Darkness(nn.Module):
    """Finds anomalous what is dark."""

    def forward(self, images: torch.Tensor) -> Output:
        return Output(1 - images.mean(dim=(1, 2, 3)), 1 - images)


class Twins:
    """Darker than any photograph; the anomalous one less so than the normal one."""

    def draw(self, number: int) -> Twin:
        normal = np.full((1, SIDE, SIDE), GENERATED, np.uint8)
        anomalous, mask = normal.copy(), np.zeros_like(normal)
        anomalous[:, :8], mask[:, :8] = DEFECT, 255
        return Twin(anomalous, normal, mask)


def test_normal_images_are_photographs_even_if_anomalies_are_twins() -> None:
    photographs = np.full((5, 1, SIDE, SIDE), PHOTOGRAPH, np.uint8)
    source: Any = Twins()
    validation = LocalAnomalies(photographs, [], 1.0, twins=[source], twin_fraction=1.0)
    data = FitData(validation, validation, validation)
    metrics = validate(data, Darkness(), CPU.accelerator())  # type: ignore[arg-type]
    # Held against their normal twins, the anomalies would be found normal: 0.
    assert metrics["image_auroc"] == 1


def test_threshold_and_metrics_are_those_of_images_kept_back(
    whole: Path, corpus: Path, photographs: Path, recipe: Recipe
) -> None:
    report = json.loads((whole / "disc/fit.json").read_text())
    model, threshold_in_use, _ = load_realnet(whole / "disc")
    data = data_of(recipe, photographs, corpus)
    kept_back = data.validation
    assert len(kept_back.normal) == 3
    made = [
        kept_back.sample(index, np.random.default_rng((1, index)), index)[0]
        for index in range(len(kept_back.normal))
    ]
    normal = np.stack([kept_back.normal[index] for index in range(3)])
    images = np.concatenate([normal / np.float32(255), np.stack(made)])
    scores = predict_images(model, images, CPU.accelerator()).scores
    labels = [0] * 3 + [1] * 3
    assert report["validation"]["image_auroc"] == pytest.approx(auroc(labels, scores))
    f1, threshold = f1_max(labels, scores)
    assert report["validation"]["image_f1_max"] == pytest.approx(f1)
    assert report["threshold"] == threshold_in_use == pytest.approx(threshold, abs=1e-5)


class Scripted(torch.nn.Module):
    """A model whose scores the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.version = torch.nn.Parameter(torch.zeros(()))


def test_best_weights_are_those_of_the_highest_score() -> None:
    scores = {1: 0.7, 2: 0.9, 3: 0.8}
    model, best = Scripted(), Best()
    for step, score in scores.items():
        metrics = {"image_auroc": score, "pixel_average_precision": 0.1, "threshold": 0.5}
        model.version.data.fill_(step)
        best.update(step, model, metrics)
    assert (best.step, best.score) == (2, pytest.approx(1.0))
    assert best.weights["version"] == 2


def test_validation_is_the_same_every_time(
    whole: Path, corpus: Path, photographs: Path, recipe: Recipe
) -> None:
    model = load_realnet(whole / "disc").model
    data = data_of(recipe, photographs, corpus)
    accelerator: Accelerator = CPU.accelerator()
    assert validate(data, model, accelerator) == validate(data, model, accelerator)


@pytest.mark.parametrize("on", ["validation", "test"])
def test_images_to_select_on_are_looked_at_in_batches(
    on: str,
    whole: Path,
    corpus: Path,
    photographs: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, sizes = load_realnet(whole / "disc").model, list[int]()

    def watched(model: RealNet, images: np.ndarray, *given: Any, **options: Any) -> Predictions:
        sizes.append(len(images))
        return predict_images(model, images, *given, **options)

    def look() -> dict[str, float]:
        if on == "test":
            tests = list_test_images(recipe, photographs, "disc")
            return validate_on_test(recipe, tests, model, CPU.accelerator())
        data = data_of(recipe, photographs, corpus)
        return validate(data, model, CPU.accelerator())

    module = many if on == "test" else selection
    monkeypatch.setattr(module, "predict_images", watched)
    at_once = look()
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    assert look() == pytest.approx(at_once, abs=1e-5)
    # Normal photographs and two kinds of anomalies, three of each.
    expected = {"validation": [3] * 3 + [2, 1] * 3, "test": [8] + [2] * 4}[on]
    assert sizes == expected


@pytest.mark.parametrize("aim", [0.3, 0.1, 0.01, 0.001])
def test_normal_images_exceed_the_threshold_as_often_as_asked(aim: float) -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(40):
        # Log odds have an exponential tail.
        known, new = rng.laplace(size=200), rng.laplace(size=50_000)
        found = threshold_for(1 / (1 + np.exp(-known)), aim)
        rates.append(float((1 / (1 + np.exp(-new)) > found.threshold).mean()))
    assert np.median(rates) == pytest.approx(aim, rel=0.35)


def test_interval_holds_the_true_rate_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        found = threshold_for(rng.uniform(size=60), 0.2)
        assert found.images == 60
        # The scores are uniform, so this is the true rate.
        held += found.low <= 1 - found.threshold <= found.high
    assert held >= 180


@pytest.mark.parametrize("scores", [[0.3], [0.3, 0.3, 0.3], [0.0, 1.0], [0.2, 0.4, 0.9]])
def test_threshold_of_few_or_equal_scores_is_a_number(scores: list[float]) -> None:
    found = threshold_for(scores, 0.01)
    assert found.threshold >= max(scores) - 1e-6
    assert 0 <= found.low <= found.high <= 1


def test_pixels_of_unmasked_defects_are_left_out(
    photographs: Path, recipe: Recipe, tmp_path: Path
) -> None:
    tests = list_test_images(recipe, photographs, "disc")
    mask = np.zeros((32, 32), np.uint8)
    mask[12:15, 4:28] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    model: Any = Darkness()
    model.image_size = 32
    masked = [replace(test, mask=tmp_path / "mask.png") for test in tests[4:6]]
    accelerator = CPU.accelerator()
    found = validate_on_test(recipe, [*tests[:4], *masked, *tests[6:]], model, accelerator)
    alone = validate_on_test(recipe, [*tests[:4], *masked], model, accelerator)
    # A dark scratch counts as a normal one nowhere.
    assert found["pixel_average_precision"] == alone["pixel_average_precision"] == 1
