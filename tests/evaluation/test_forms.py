"""Images are evaluated and scored as the model takes them: its shape, white, mode and size."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ModelError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.predict import predict
from sia_gen.images.counted import Scope
from sia_gen.images.squares import Area
from sia_gen.metrics import inverse_areas
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.runtime.device import Runtime
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")
SIZES = {"wide": (100, 20), "tall": (48, 64), "square": (64, 64)}
PATTERN = "{category}/ground_truth/{defect}/{stem}_mask.*"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Test images of three shapes, good and with a scratch that a mask marks; of 12 bits."""
    rng = np.random.default_rng(0)
    for number, (shape, (width, height)) in enumerate(SIZES.items()):
        for group in ("train/good", "test/good", "test/scratch", "ground_truth/scratch"):
            folder = tmp_path / "images/disc" / group
            folder.mkdir(parents=True, exist_ok=True)
            if group.startswith("ground_truth"):
                mask = np.zeros((height, width), np.uint8)
                mask[height // 4 : height // 2, width // 4 : width // 2] = 255
                Image.fromarray(mask).save(folder / f"{shape}_mask.png")
            else:
                pixels = rng.integers(0, 3000 + number, (height, width)).astype(np.uint16)
                Image.fromarray(pixels).save(folder / f"{shape}.{'png' if number else 'tif'}")
                photograph = Image.fromarray(pixels + np.uint16(1))
                photograph.save(folder / f"{shape}-2.png")
    for shape in SIZES:
        (tmp_path / f"images/disc/test/scratch/{shape}-2.png").unlink()
    return tmp_path / "images"


@pytest.fixture
def padded(recipe: Recipe) -> Recipe:
    changes = {"categories": ["disc"], "data.non_square": "pad", "data.white": 4095}
    return recipe.override({**changes, "data.images.mask": PATTERN})


@pytest.fixture
def models(tmp_path: Path, padded: Recipe) -> Path:
    save_detector(tmp_path / "models/disc")
    (tmp_path / "models/disc/recipe.yaml").write_text(padded.to_yaml())
    return tmp_path / "models"


def square(path: Path) -> tuple[np.ndarray, Area]:
    """An image of 64 x 64 as the model takes it, by other code, and where its picture is."""
    with Image.open(path) as file:
        values = np.asarray(file).astype(np.float64)
    eight = np.floor(np.minimum(values, 4095) * 255 / 4095 + 0.5).astype(np.uint8)
    height, width = values.shape
    scale = 64 / max(height, width)
    size = (round(width * scale), round(height * scale))
    left, top = (64 - size[0]) // 2, (64 - size[1]) // 2
    inside = np.asarray(Image.fromarray(eight).resize(size, Image.BICUBIC))
    edges = inside[[0, -1]] if width > height else inside[:, [0, -1]]
    pixels = np.full((64, 64), edges.mean().round(), np.uint8)
    area = Area(top, top + size[1], left, left + size[0])
    pixels[area.top : area.bottom, area.left : area.right] = inside
    return pixels[None], area


def test_metrics_are_those_of_the_pictures_without_padding(
    root: Path, padded: Recipe, models: Path, tmp_path: Path
) -> None:
    summary = evaluate(padded, ["disc"], root, models, tmp_path / "out", CPU)
    model = load_realnet(models / "disc").model
    labels, scores, masks, maps, regions = [], [], [], [], 0
    for path in sorted((root / "disc/test").glob("*/*")):
        image, area = square(path)
        found = predict_images(model, image[None], CPU.accelerator(), scopes=[Scope(area)])
        labels.append(int(path.parent.name == "scratch"))
        scores.append(found.scores[0])
        mask = np.zeros(area.cut(found.maps[0]).shape, bool)
        if labels[-1]:
            marked = Image.open(root / f"disc/ground_truth/scratch/{path.stem}_mask.png")
            mask = np.asarray(marked.resize(mask.shape[::-1], Image.BOX)) > 127
        regions += inverse_areas(mask)[1]
        masks.append(mask.ravel())
        maps.append(area.cut(found.maps[0]).ravel())
    every, marked = np.concatenate(maps), np.concatenate(masks)
    assert len(every) == 3 * (64 * 13 + 48 * 64 + 64 * 64)
    metrics = summary["categories"]["disc"]
    assert regions == 3
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(marked, every))
    expected = average_precision_score(marked, every)
    assert metrics["pixel_average_precision"] == pytest.approx(expected, abs=1e-6)
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))


def test_scores_are_those_of_the_pictures_and_heat_maps_as_large(
    root: Path, padded: Recipe, models: Path, tmp_path: Path
) -> None:
    evaluate(padded, ["disc"], root, models, tmp_path / "out", CPU)
    files = [root / f"disc/test/good/{shape}-2.png" for shape in SIZES]
    predict(models / "disc", files, tmp_path / "predictions", CPU)
    model = load_realnet(models / "disc").model
    lines = (tmp_path / "predictions/predictions.jsonl").read_text().splitlines()
    for line, path, size in zip(map(json.loads, lines), files, SIZES.values(), strict=True):
        image, area = square(path)
        (score,) = predict_images(
            model, image[None], CPU.accelerator(), scopes=[Scope(area)]
        ).scores
        assert line["score"] == pytest.approx(score, abs=1e-5)
        with Image.open(tmp_path / f"predictions/heatmaps/{path.name}") as picture:
            assert picture.size == size
    shapes = {(128, 13), (96, 64), (128, 64)}
    for path in (tmp_path / "out/disc/heatmaps").iterdir():
        with Image.open(path) as picture:
            assert picture.size in shapes


def test_model_decides_whatever_the_recipe_says_now(
    root: Path, padded: Recipe, models: Path, tmp_path: Path
) -> None:
    as_fitted = evaluate(padded, ["disc"], root, models, tmp_path / "first", CPU)
    other = padded.override(
        {
            "mode": "RGB",
            "seed": 5,
            "data.non_square": "crop",
            "data.white": 65535,
            "realnet.image_size": 32,
        }
    )
    found = evaluate(other, ["disc"], root, models, tmp_path / "second", CPU)
    assert found["categories"] == as_fitted["categories"]
    # The folder of the evaluation takes either.
    again = evaluate(other, ["disc"], root, models, tmp_path / "first", CPU)
    assert again["categories"] == as_fitted["categories"]
    cropping = shutil.copytree(models, tmp_path / "cropping")
    (cropping / "disc/recipe.yaml").write_text(other.override({"mode": "L"}).to_yaml())
    lossy = evaluate(padded, ["disc"], root, cropping, tmp_path / "third", CPU)
    assert lossy["categories"] != as_fitted["categories"]


@pytest.mark.parametrize("rule", ["pad", "crop", "stretch"])
def test_what_happens_to_shapes_is_said(
    root: Path,
    padded: Recipe,
    models: Path,
    tmp_path: Path,
    rule: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changed = padded.override({"data.non_square": rule})
    (models / "disc/recipe.yaml").write_text(changed.to_yaml())
    evaluate(padded, ["disc"], root, models, tmp_path / "out", CPU)
    said = {"pad": "padded", "crop": "cropped, which loses", "stretch": "stretched"}[rule]
    assert f"6 of 9 images are not square; they are {said}" in capfd.readouterr().err
    predict(models / "disc", [root / "disc/test/good"], tmp_path / "predictions", CPU)
    assert f"4 of 6 images are not square; they are {said}" in capfd.readouterr().err


def test_model_without_its_recipe_is_one_line(
    root: Path, padded: Recipe, models: Path, tmp_path: Path
) -> None:
    (models / "disc/recipe.yaml").unlink()
    for run in (
        lambda: evaluate(padded, ["disc"], root, models, tmp_path / "out", CPU),
        lambda: predict(models / "disc", [root], tmp_path / "out", CPU),
    ):
        with pytest.raises(ModelError, match=r"has no recipe\.yaml"):
            run()
    assert not (tmp_path / "out").exists()


def test_scores_are_written_of_all_shapes(
    root: Path, padded: Recipe, models: Path, tmp_path: Path
) -> None:
    evaluate(padded, ["disc"], root, models, tmp_path / "out", CPU)
    with (tmp_path / "out/disc/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 9
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert content["learnt"] == {"disc": None}
