"""Detectors that learn from tiles, and what they refuse."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sia_gen import Detector
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, OutputError, RecipeError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.predict import predict
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import load_realnet
from tests.realnet.conftest import CPU
from tests.small_networks import save_detector


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


@pytest.mark.parametrize(
    "architecture",
    [
        "independent",
        pytest.param("retrieval", marks=pytest.mark.slow),
        "retrieval by position",
    ],
)
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
    ("changes", "message"),
    [
        ({"realnet.architecture": "retrieval"}, "needs photographs that are cut into tiles"),
        ({"data.tile.size": 16}, "'position' applies to retrieval"),
    ],
)
def test_positions_are_those_of_a_retrieval_in_photographs(
    small: Recipe, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
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
    ("setting", "message"),
    [
        ("roi", r"low.png is 160 x 90 pixels, but the region of interest ends at 160, 100"),
        ("ignore", r"low.png: the mask .* is 160 x 100 pixels, its image 160 x 90"),
    ],
)
def test_what_does_not_fit_test_images_is_refused_before_anything_is_written(
    tiled: Recipe, wide: Path, tmp_path: Path, cut: bool, setting: str, message: str
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
    with pytest.raises(ImageError, match=message):
        evaluate(recipe, ["wide"], root, tmp_path / "models", tmp_path / "evaluation", CPU)
    assert not (tmp_path / "evaluation").exists()


def test_predictions_depend_on_the_mask_of_what_to_ignore(
    tiled: Recipe, wide: Path, tmp_path: Path
) -> None:
    mask, out = tmp_path / "masks", tmp_path / "found"
    save_detector(tmp_path / "model")
    recipe = tiled.override({"data.ignore": str(mask)})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    photographs = [wide / "test/good"]
    with pytest.raises(ImageError, match="there is no mask"):
        predict(tmp_path / "model", photographs, out, CPU, save="none")
    # Else the photographs would count as unreadable, also once the mask is there.
    assert not out.exists()
    # A folder of masks, and what else may lie in it.
    (mask / "sketches").mkdir(parents=True)
    Image.new("L", (160, 100)).save(mask / "0.png")
    predict(tmp_path / "model", photographs, out, CPU, save="none")
    Image.fromarray(np.eye(100, 160, dtype=np.uint8) * 255).save(mask / "0.png")
    with pytest.raises(OutputError, match="predictions with another ignore"):
        predict(tmp_path / "model", photographs, out, CPU, save="none")
