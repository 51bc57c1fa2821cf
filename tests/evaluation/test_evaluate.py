from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sia_gen import RealNet
from sia_gen.errors import ImageError, ModelError
from sia_gen.evaluation.evaluate import ScoredImage, evaluate, worth_looking_at
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime

CPU = Runtime("fp32", "cpu")
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unfitted models; what counts here is that their scores are counted rightly."""
    folder = tmp_path_factory.mktemp("realnet")
    for seed, category in enumerate(["disc", "plate"]):
        torch.manual_seed(seed)
        model = RealNet("tf_efficientnet_lite0", 64, [8, 16], [8, 8], num_max=4, num_mean=4)
        model.save_pretrained(folder / category)
        (folder / category / "fit.json").write_text(json.dumps({"threshold": THRESHOLD}))
    return folder


Evaluate = Callable[..., tuple[dict[str, dict[str, dict[str, float]]], Path]]


@pytest.fixture
def run(models: Path, tmp_path: Path, photographs: Path, recipe: Recipe) -> Evaluate:
    def call(chosen: Recipe = recipe, root: Path = photographs) -> tuple[object, Path]:
        out = tmp_path / "out"
        return evaluate(chosen, chosen.categories, root, models, out, CPU), out

    return call


def scores(out: Path, category: str) -> tuple[list[int], list[float], list[int]]:
    """Labels, scores and verdicts as written."""
    with (out / category / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return (
        [int(row["label"] == "anomalous") for row in rows],
        [float(row["score"]) for row in rows],
        [int(row["verdict"] == "anomalous") for row in rows],
    )


def test_metrics_are_those_of_the_written_scores(run: Evaluate) -> None:
    summary, out = run()
    assert json.loads((out / "metrics.json").read_text()) == summary
    for category, found in summary["categories"].items():
        labels, values, verdicts = scores(out, category)
        assert (found["normal_images"], found["anomalous_images"]) == (4, 4)
        assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, values))
        expected = average_precision_score(labels, values)
        assert found["image_average_precision"] == pytest.approx(expected)
        assert verdicts == [int(value > THRESHOLD) for value in values]
        expected = f1_score(labels, verdicts, zero_division=0)
        assert found["image_f1_at_threshold"] == pytest.approx(expected)
    for name, value in summary["mean"].items():
        assert value == pytest.approx(
            np.mean([found[name] for found in summary["categories"].values()])
        )


def test_table_gives_percent_by_category_and_their_mean(run: Evaluate) -> None:
    summary, out = run()
    lines = (out / "metrics.md").read_text().splitlines()
    assert lines[0].startswith("| parts | AUROC |")
    assert f"{100 * summary['mean']['image_auroc']:.1f}" in lines[4]
    assert lines[4].startswith("| **mean** |")
    assert "Weights and threshold were selected on normal images kept back" in lines[-1]


def test_heat_maps_are_pictures_named_by_what_they_show(run: Evaluate) -> None:
    _, out = run()
    pictures = sorted((out / "disc/heatmaps").iterdir())
    assert len(pictures) == 8
    for path in pictures:
        _, kind, score, _ = path.stem.split("_", 3)
        assert kind in ("normal", "anomalous")
        assert 0 <= float(score) <= 1
        with Image.open(path) as image:
            assert image.size == (128, 64)


def test_best_worst_and_borderline_images_are_shown_once() -> None:
    scored = [ScoredImage(Path(f"{n}"), int(n >= 50), n / 100) for n in range(100)]
    shown = worth_looking_at(scored, 0.3)
    assert len(shown) == len(set(shown)) == 32
    assert shown[0].score == 0.99
    assert {image.score for image in shown} >= {0.50, 0.49, 0.30}


def test_missing_model_is_refused_before_anything_is_written(
    run: Evaluate, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="there is no RealNet in"):
        run(recipe.override({"categories": ["disc", "ring"]}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "kind"), [("test_anomalous", "anomalous"), ("test_normal", "normal")]
)
def test_test_without_one_kind_of_image_is_refused(
    run: Evaluate, recipe: Recipe, tmp_path: Path, missing: str, kind: str
) -> None:
    changed = recipe.override({f"data.images.{missing}": "{category}/nowhere/*"})
    with pytest.raises(ImageError, match=f"'disc' has no {kind} test images"):
        run(changed)
    assert not (tmp_path / "out").exists()
