"""The pictures of the page of the threshold, and the pages of `evaluate` and `predict`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.data import NonSquare
from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.evaluation.predict import predict
from sia_gen.evaluation.threshold_page import save_pictures
from sia_gen.images.squares import Area, looked_at
from sia_gen.io.files import FileGroups
from sia_gen.runtime.device import Runtime
from tests.conftest import photograph
from tests.small_networks import save_detector

if TYPE_CHECKING:
    from tests.evaluation.conftest import Evaluate

CPU = Runtime("fp32", "cpu")
DATA = re.compile(r'id="data">(.*?)</script>', re.DOTALL)


def content(page: Path) -> Any:
    match = DATA.search(page.read_text())
    assert match is not None
    return json.loads(match[1])


def require_pictures(page: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """Whatever the page shows is there, in the size of the photograph."""
    for name, _, _, _, *addresses in content(page)["images"]:
        photograph, thumbnail, heatmap = (page.parent / unquote(one) for one in addresses)
        with Image.open(photograph) as image:
            assert (image.size, image.format) == (sizes[name], "JPEG")
        with Image.open(heatmap) as image:
            width, height = sizes[name]
            assert (image.mode, image.format) == ("RGBA", "WEBP")
            assert width / height == pytest.approx(image.width / image.height, rel=0.05)
        with Image.open(thumbnail) as image:
            assert max(image.size) <= 480


@pytest.mark.parametrize("rule", ["crop", "pad", "stretch"])
def test_heat_map_lies_where_the_model_looked(tmp_path: Path, rule: NonSquare) -> None:
    size = (600, 300)
    Image.new("L", size).save(tmp_path / "photo.png")
    # Anomalous in the left half of what the model saw.
    anomaly_map = np.zeros((32, 64) if rule == "pad" else (64, 64), np.float32)
    anomaly_map[:, :32] = 1
    with FileGroups() as files:
        save_pictures(
            files,
            tmp_path / "out/a.png",
            tmp_path / "photo.png",
            None,
            size,
            anomaly_map,
            looked_at(size, rule),
        )
    with Image.open(tmp_path / "out/a.png.webp") as image:
        assert image.width == 2 * image.height
        opaque = np.asarray(image)[..., 3] > 90
    columns = opaque.mean(axis=0)
    left, right = (0.25, 0.5) if rule == "crop" else (0.0, 0.5)
    places = (np.arange(image.width) + 0.5) / image.width
    inside = (places > left) & (places < right)
    assert columns[inside].mean() > 0.95
    assert columns[~inside].mean() < 0.05
    with Image.open(tmp_path / "out/a.png.small.jpg") as image:
        assert image.size == (480, 240)


@pytest.mark.parametrize("size", [(70_000, 40), (40, 20_001)])
@pytest.mark.parametrize("side", [None, 40])
def test_pictures_of_long_photographs_are_reduced(
    tmp_path: Path, size: tuple[int, int], side: int | None
) -> None:
    """JPEG has at most 65,500 and WebP 16,383 pixels in a row, also if little of it is scored."""
    width, height = (side or size[0], side or size[1])
    pixels = np.full((size[1], size[0]), 50, np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 150
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    anomaly_map = np.zeros((height, width), np.float32)
    anomaly_map[-1, -1] = 1
    with FileGroups() as files:
        area = Area(0, height, 0, width)
        save_pictures(files, tmp_path / "a", tmp_path / "photo.png", None, size, anomaly_map, area)
    every = -(-max(size) // 8192)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == tuple(-(-side // every) for side in size)
        shown = np.asarray(image)[..., 0]
    middle = shown.shape[0] // 2, shown.shape[1] // 2
    assert shown[: middle[0], : middle[1]].mean() == pytest.approx(150, abs=8)
    assert shown[middle[0] + 1 :, middle[1] + 1 :].mean() == pytest.approx(50, abs=8)
    with Image.open(tmp_path / "a.webp") as image:
        assert max(image.size) <= 4096
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.3)
        place = np.argwhere(np.asarray(image)[..., 3] > 90).max(axis=0) + 1
    expected = (height / size[1], width / size[0])
    assert place / (image.height, image.width) == pytest.approx(expected, abs=0.15)


def test_evaluation_has_a_page_of_every_test_image(run: Evaluate) -> None:
    summary, out = run()
    for category in ("disc", "plate"):
        page = out / category / "threshold.html"
        found = content(page)
        assert found["threshold"] == summary["categories"][category]["threshold"]
        labels = [label for _, _, label, *_ in found["images"]]
        assert [labels.count(one) for one in ("normal", "anomalous")] == [4, 4]
        require_pictures(page, {name: (32, 32) for name, *_ in found["images"]})
        assert 'href="threshold.html"' in (out / category / "index.html").read_text()


def test_predictions_have_a_page_whatever_the_names_are(tmp_path: Path, recipe: Recipe) -> None:
    save_detector(tmp_path / "model", strides=[16])
    squares = recipe.override({"data.non_square": "stretch"})
    (tmp_path / "model/recipe.yaml").write_text(squares.to_yaml())
    sizes = {"a #1 100%.png": (32, 32), "x/a #1 100%.png": (50, 30), "a.small.png": (700, 70)}
    for number, (name, size) in enumerate(sizes.items()):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(number).resize(size).save(tmp_path / "photos" / name)
    (tmp_path / "photos/bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="1 of 4 images were not scored"):
        predict(tmp_path / "model", [tmp_path / "photos"], tmp_path / "out", CPU, save="page")
    page = tmp_path / "out/threshold.html"
    found = content(page)
    assert {label for _, _, label, *_ in found["images"]} == {None}
    require_pictures(page, {str(tmp_path / "photos" / name): size for name, size in sizes.items()})
    assert len(found["images"]) == len(sizes)
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    scores = {one["image"]: one["score"] for one in map(json.loads, lines)}
    for name, score, *_ in found["images"]:
        assert score == scores[name]
