"""What is written about photographs: at their own size, and as other programs read it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.detection.detection import Detection
from sia_gen.detection.detector import Detector
from sia_gen.errors import OptionError
from sia_gen.evaluation.predict import predict
from sia_gen.evaluation.saving import OUTPUTS, Scored, choose_outputs
from sia_gen.runtime.device import Runtime
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")
EVERYTHING = ",".join(OUTPUTS)
# Width and height of photographs; the model takes 64 x 64.
SIZES = {"wide": (150, 90), "tall": (40, 130)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """A model that looks at the central square."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_detector(folder, strides=[16])
    recipe = small.override({"data.non_square": "crop"})
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(rng.integers(0, 256, (height, width), np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.fixture(scope="module")
def found(model: Path, photos: Path) -> dict[str, Detection]:
    """What is in the photographs, at a threshold below both scores."""
    low = min(one.score for one in Detector.load(model, CPU).predict(photos)) - 0.001
    both = Detector.load(model, CPU, threshold=low).predict(photos)
    return dict(zip(sorted(SIZES), both, strict=True))


@pytest.fixture(scope="module")
def out(
    model: Path, photos: Path, found: dict[str, Detection], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("predictions") / "out"
    threshold = found["wide"].threshold
    counts = predict(model, [photos], folder, CPU, threshold=threshold, save=EVERYTHING)
    assert counts == (2, 2)
    return folder


@pytest.mark.parametrize("name", SIZES)
def test_every_file_is_of_the_size_of_the_photograph(
    name: str, photos: Path, out: Path, found: dict[str, Detection]
) -> None:
    width, height = SIZES[name]
    anomaly_map = np.load(out / f"anomaly_maps/{name}.npy")
    assert (anomaly_map.dtype, anomaly_map.shape) == (np.float32, (height, width))
    assert np.array_equal(anomaly_map, found[name].anomaly_map, equal_nan=True)
    seen = ~np.isnan(anomaly_map)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    expected = np.zeros_like(seen)
    expected[top : top + side, left : left + side] = True
    assert np.array_equal(seen, expected)
    tiff = np.asarray(Image.open(out / f"anomaly_maps/{name}.tiff"))
    assert tiff.dtype == np.uint16
    assert np.abs(tiff / 65535 - np.nan_to_num(anomaly_map)).max() <= 0.5 / 65535 + 1e-7
    mask = np.asarray(Image.open(out / f"anomaly_masks/{name}.png"))
    assert np.array_equal(mask, (anomaly_map > found[name].threshold) * np.uint8(255))
    assert 0 < (mask > 0).sum() < mask.size
    picture = np.asarray(Image.open(out / f"heatmaps/{name}.png"))
    assert picture.shape == (height, width, 3)
    photograph = np.asarray(Image.open(photos / f"{name}.png"))
    assert np.array_equal(picture[~seen], np.stack([photograph // 2] * 3, axis=-1)[~seen])


@pytest.mark.parametrize("becomes", [None, (150, 90), (20, 10), (300, 200)])
def test_photographs_that_are_gone_or_others_are_grey(
    tmp_path: Path, found: dict[str, Detection], becomes: tuple[int, int] | None
) -> None:
    """A line moves photographs on, or takes the next under the same name, before it is shown."""
    path = tmp_path / "wide.png"
    if becomes is not None:
        Image.new("L", becomes, 200).save(path)
    OUTPUTS["heatmaps"].write(Scored(path, None, found["wide"]), tmp_path / "heatmap.png")
    with Image.open(tmp_path / "heatmap.png") as file:
        assert file.size == (150, 90)
        assert file.getpixel((0, 0)) == (100 if becomes == (150, 90) else 64,) * 3


def test_boxes_of_yolo_and_coco_are_those_of_the_regions(
    photos: Path, out: Path, found: dict[str, Detection]
) -> None:
    document = json.loads((out / "annotations.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "anomaly"}]
    assert [one["id"] for one in document["annotations"]] == [
        *range(1, len(document["annotations"]) + 1)
    ]
    for image in document["images"]:
        name = Path(image["file_name"]).stem
        assert image["file_name"] == str(photos / f"{name}.png")
        width, height = SIZES[name]
        assert (image["width"], image["height"]) == (width, height)
        own = [one for one in document["annotations"] if one["image_id"] == image["id"]]
        lines = (out / f"boxes/{name}.txt").read_text().splitlines()
        assert len(own) == len(lines) == len(found[name].regions) > 0
        for region, one, line in zip(found[name].regions, own, lines, strict=True):
            assert (tuple(one["bbox"]), one["area"], one["score"]) == (
                region.box,
                region.area,
                region.score,
            )
            assert len(one["segmentation"][0]) == 2 * len(region.contour)
            kind, x, y, wide, high, score = map(float, line.split())
            assert (kind, score) == (0, pytest.approx(region.score, abs=1e-6))
            left, top = (x - wide / 2) * width, (y - high / 2) * height
            values = (left, top, wide * width, high * height)
            assert values == pytest.approx(region.box, abs=1e-3)


def test_lines_have_the_regions(out: Path, found: dict[str, Detection]) -> None:
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        detection = found[Path(line["image"]).stem]
        assert tuple(line["size"]) == detection.size
        assert [tuple(one["box"]) for one in line["regions"]] == [
            one.box for one in detection.regions
        ]
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [line["score"] for line in lines]


def test_a_normal_photograph_has_no_regions(model: Path, photos: Path, tmp_path: Path) -> None:
    predict(model, [photos], tmp_path / "out", CPU, threshold=1.0, save="boxes,masks")
    assert not np.asarray(Image.open(tmp_path / "out/anomaly_masks/wide.png")).any()
    assert (tmp_path / "out/boxes/wide.txt").read_text() == ""
    assert json.loads((tmp_path / "out/annotations.json").read_text())["annotations"] == []
    assert not (tmp_path / "out/heatmaps").exists()


def test_outputs_are_chosen_by_name(model: Path, photos: Path, tmp_path: Path) -> None:
    assert choose_outputs("heatmaps, boxes,heatmaps") == ["heatmaps", "boxes"]
    assert choose_outputs("none") == []
    with pytest.raises(OptionError, match=r"no output 'boxs' \(did you mean 'boxes'\?\)"):
        predict(model, [photos], tmp_path / "out", CPU, save="boxs")
    assert not (tmp_path / "out").exists()
