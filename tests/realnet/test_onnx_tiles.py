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


@pytest.mark.parametrize(
    "architecture",
    [
        "retrieval",
        pytest.param("retrieval by position", marks=pytest.mark.slow),
        pytest.param("independent", marks=pytest.mark.slow),
    ],
)
def test_map_and_score_are_those_of_predict(
    reference: ModuleType,
    architecture: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small: Recipe,
    shallow: None,
) -> None:
    retrieval, position = architecture != "independent", " " in architecture
    options: dict[str, Any] = {}
    if retrieval:
        options = {"architecture": "retrieval", "memory_size": 50, "rrs": "all"}
    save_detector(tmp_path / "model", strides=[16], position=position, **options)
    recipe = small.override({"data.tile": {"size": 64, "scale": 0.5}})
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(ModelError, match="takes tiles"):
        export_realnet(tmp_path / "model", tmp_path / "model.onnx", preprocessing=True)
    export_realnet(tmp_path / "model", tmp_path / "model.onnx")
    description = json.loads((tmp_path / "model.json").read_text())
    assert description["tile"] == {"size": 64, "overlap": 16, "scale": 0.5}
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photograph.png", exif=exif)
    model = load_realnet(tmp_path / "model").model
    weights = str(tmp_path / "model/model.safetensors")
    tile = Tile(size=64, overlap=16, scale=0.5)
    pixels = load_photograph(tmp_path / "photograph.png", ImageSpec("L", 64, tile=tile))
    score, anomaly_map = predict_photograph(model, pixels, tile, CPU.accelerator())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    values = reference.blended_map(session, pixels / np.float32(255), 16, retrieval)
    values = reference.place(values, weights) if position else values
    found = reference.probability(values, retrieval)
    np.testing.assert_allclose(found, anomaly_map, rtol=0, atol=1e-4)
    monkeypatch.chdir(tmp_path)
    arguments = ["model.onnx", "photograph.png", "--tile", "64:16", "--scale", "0.5"]
    arguments += ["--retrieval"] if retrieval else []
    arguments += ["--places", weights] if position else []
    monkeypatch.setattr(sys, "argv", ["onnx_tiles.py", *arguments])
    reference.main()
    assert float(capsys.readouterr().out) == pytest.approx(score, abs=1e-4)
    shown = np.asarray(Image.open("map.png")).astype(int)
    assert np.abs(shown - np.rint(255 * anomaly_map)).max() <= 1
