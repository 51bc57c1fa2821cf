"""The reference in the documents scores a photograph with ONNX as `predict` does."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from sia_gen.config.data import Tile
from sia_gen.config.recipe import Recipe
from sia_gen.deployment.export import export_realnet
from sia_gen.errors import ModelError
from sia_gen.images.loading import ImageSpec, load_photograph
from sia_gen.realnet.inference import load_realnet
from sia_gen.realnet.photographs import predict_photograph
from tests.realnet.conftest import CPU
from tests.small_networks import save_detector

TOP = Path(__file__).parents[2]


@pytest.fixture
def reference() -> ModuleType:
    spec = spec_from_file_location("onnx_tiles", TOP / "docs/onnx_tiles.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WHITE, REGION = 4095, (10, 0, 200, 300)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        # Tiles of another size than the detector takes.
        ("retrieval", 80),
        pytest.param("retrieval by position", 64, marks=pytest.mark.slow),
        pytest.param("independent", 48, marks=pytest.mark.slow),
    ],
)
def test_map_and_score_are_those_of_predict(
    reference: ModuleType,
    architecture: str,
    side: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small: Recipe,
    shallow: None,
) -> None:
    """The photograph lies on its side, has 16 bits, and is larger than what counts in it."""
    position = " " in architecture
    options: dict[str, Any] = {}
    if architecture != "independent":
        options = {"architecture": "retrieval", "memory_size": 50, "rrs": "all"}
    save_detector(tmp_path / "model", strides=[16], position=position, **options)
    changes = {"data.tile": {"size": side, "overlap": 16, "scale": 0.5}, "data.white": WHITE}
    recipe = small.override(changes | {"data.roi": REGION})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(ModelError, match="takes tiles"):
        export_realnet(tmp_path / "model", tmp_path / "model.onnx", preprocessing=True)
    export_realnet(tmp_path / "model", tmp_path / "model.onnx")
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["tile"] == {"size": side, "overlap": 16, "scale": 0.5}
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, WHITE + 99, (200, 300), np.uint16)
    Image.fromarray(noise).save(tmp_path / "photograph.png", exif=exif)
    model = load_realnet(tmp_path / "model").model
    tile = Tile(size=side, overlap=16, scale=0.5)
    spec = ImageSpec("L", 64, white=WHITE, tile=tile, roi=REGION)
    pixels = load_photograph(tmp_path / "photograph.png", spec)
    assert np.array_equal(reference.read(tmp_path / "photograph.png", about), pixels)
    score, anomaly_map = predict_photograph(model, pixels, tile, CPU.accelerator())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    values = reference.blended_map(session, pixels, about)
    weights = str(tmp_path / "model/model.safetensors")
    if position:
        values = reference.placed(values, reference.read_places(weights))
    found = reference.probability(values, about["retrieval"])
    np.testing.assert_allclose(found, anomaly_map, rtol=0, atol=1e-4)
    monkeypatch.chdir(tmp_path)
    arguments = ["model.onnx", "photograph.png", *(["--places", weights] if position else [])]
    monkeypatch.setattr(sys, "argv", ["onnx_tiles.py", *arguments])
    reference.main()
    message, verdict = capsys.readouterr().out.split()
    assert float(message) == pytest.approx(score, abs=1e-4)
    assert verdict == ("anomalous" if score > about["threshold"] else "normal")
    shown = np.asarray(Image.open("map.png")).astype(int)
    assert np.abs(shown - np.rint(255 * anomaly_map)).max() <= 1
    for detector, wrong, reason in (
        ("model.onnx", "no.png", "cannot read what was given"),
        ("model.onnx", "model.onnx", "cannot identify"),
        ("no.onnx", "photograph.png", "cannot read the detector no.onnx"),
        ("photograph.png", "photograph.png", "cannot read the detector photograph.png"),
    ):
        monkeypatch.setattr(sys, "argv", ["onnx_tiles.py", detector, wrong, *arguments[2:]])
        with pytest.raises(SystemExit, match="2"):
            reference.main()
        assert reason in capsys.readouterr().err.splitlines()[-1]


ABOUT = {"white": None, "roi": None, "mode": "L", "tile": {"size": 32, "scale": 1.0}}


@pytest.mark.parametrize(
    ("picture", "about", "message"),
    [
        (Image.new("L", (40, 20)), {}, "a tile of 32 pixels is larger than 40 x 20"),
        (Image.new("L", (40, 40)), {"roi": [0, 0, 41, 40]}, "the region of interest .* is not in"),
        (Image.new("F", (40, 40)), {}, "its range of values is unknown"),
    ],
)
def test_photographs_that_cannot_be_cut_are_refused(
    reference: ModuleType, tmp_path: Path, picture: Image.Image, about: dict[str, Any], message: str
) -> None:
    picture.save(tmp_path / "photograph.tif")
    with pytest.raises(ValueError, match=message):
        reference.read(tmp_path / "photograph.tif", ABOUT | about)


def test_transparent_photographs_are_seen_on_black(reference: ModuleType, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (255, 255, 255, 51)).save(tmp_path / "photograph.png")
    for scale in (1.0, None):
        about = ABOUT | {"tile": {"size": 32, "scale": scale}}
        found = reference.read(tmp_path / "photograph.png", about)
        assert found.shape == (1, 40, 40)
        assert (found == 51).all()


def test_certain_probabilities_are_finite(reference: ModuleType) -> None:
    assert np.isfinite(reference.averaged(np.array([0.0, 0.5, 1.0]), True)).all()
