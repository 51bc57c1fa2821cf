"""What the cards of models tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.card import CARD
from sia_gen.detection.detector import Detector
from sia_gen.hub.models import ModelPublication, write_pipeline_card
from sia_gen.hub.push import push_to_hub
from tests.hub.server import Hub

OLD = {"noise_ratio": 1.5, "distance_ratio": 4.0, "ready": False}


@pytest.mark.parametrize(
    ("readiness", "said"),
    [
        ({}, "| ready | no: train it longer; limits from grey solar cells (ELPV)"),
        ({"readiness": OLD}, "| ready | no: train it longer |"),
        ({"readiness": None}, "| ready | not measured |"),
    ],
    ids=["measured", "by an earlier version", "without time"],
)
def test_card_says_how_ready_a_model_is(
    pipeline_folder: Path, tmp_path: Path, readiness: dict[str, Any], said: str
) -> None:
    report = json.loads((pipeline_folder / "training.json").read_text()) | readiness
    target = tmp_path / "card"
    target.mkdir()
    recipe = Recipe.load(pipeline_folder / "recipe.yaml")
    write_pipeline_card(pipeline_folder, target, recipe, report, "ada/parts")
    card = (target / CARD).read_text()
    assert said in card
    weights = load_file(pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors")
    count = sum(tensor.numel() for tensor in weights.values())
    assert f"| network | {count:,} parameters" in card
    assert "|\n| versions |" in card


@pytest.mark.parametrize("chosen", [{"strides": [8, 16]}, {"layers": [3, -1]}])
def test_card_names_the_layers_of_the_backbone(
    realnet_folder: Path, tmp_path: Path, chosen: dict[str, list[int]]
) -> None:
    recipe = Recipe.load(realnet_folder / "recipe.yaml")
    changed = recipe.override({f"realnet.{name}": value for name, value in chosen.items()})
    (realnet_folder / "recipe.yaml").write_text(changed.to_yaml())
    (tmp_path / "card").mkdir()
    ModelPublication(realnet_folder).prepare("ada/parts", tmp_path / "card")
    said = "strides 8, 16" if "strides" in chosen else "layers 3, -1"
    assert (
        f"| backbone | {recipe.realnet.backbone}, {said} |"
        in (tmp_path / "card" / CARD).read_text()
    )


def test_card_says_that_a_detector_takes_tiles(realnet_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(realnet_folder / "recipe.yaml").override({"data.tile.size": 64})
    (realnet_folder / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "card").mkdir()
    ModelPublication(realnet_folder).prepare("ada/parts", tmp_path / "card")
    card = (tmp_path / "card" / CARD).read_text()
    assert "for every image in `photos`, which it scores tile by tile.\n\n## What it is" in card
    assert "mode L; tiles of 64 x 64 pixels of photographs at scale 1 |" in card


def test_a_published_detector_is_the_one_on_the_disk(
    hub: Hub, realnet_folder: Path, name: str, photographs: Path
) -> None:
    push_to_hub(realnet_folder, name)
    image = next((photographs / "disc/train/good").iterdir())
    local, published = (
        Detector.from_pretrained(place, device="cpu", precision="fp32").predict(image)
        for place in (realnet_folder, name)
    )
    assert (published.score, published.verdict) == (local.score, local.verdict)
    assert np.array_equal(published.anomaly_map, local.anomaly_map)
