"""Transformers of timm as backbones, their layers chosen by number."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.deployment.export import export_realnet
from sia_gen.errors import ModelError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.predict import predict
from sia_gen.inspection.distance import open_backbone
from sia_gen.realnet.backbone import Backbone
from sia_gen.realnet.fitting import fit_realnet
from tests.realnet.conftest import CPU
from tests.realnet.transformers import save_whole
from tests.small_networks import save_detector

# By family: a size of images that is not that of its weights, two layers and their strides.
CASES: dict[str, tuple[int, list[int], list[int]]] = {
    "small_dinov2": (70, [1, 3], [14, 14]),
    "small_dinov2_reg4": (98, [0, -1], [14, 14]),
    "small_dinov3": (80, [1, 2], [16, 16]),
    "small_clip": (64, [-2, -1], [16, 16]),
    "small_siglip": (96, [1, 3], [16, 16]),
    "small_beit": (64, [0, 2], [16, 16]),
    "small_swin": (72, [0, 2], [4, 16]),
    "small_swinv2": (64, [1, 2], [8, 16]),
    "test_convnext": (64, [1, 2], [8, 16]),
    "test_mambaout": (64, [0, 1], [4, 8]),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_layers_of_a_whole_file_are_those_of_timm(name: str, tmp_path: Path) -> None:
    size, layers, strides = CASES[name]
    path, state = save_whole(name, tmp_path)
    backbone = Backbone(name, layers=layers, image_size=size)
    backbone.load_weights(str(path))
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = backbone(images)
    sides = [math.ceil(size / stride) for stride in strides]
    assert [feature.shape[2:] for feature in found] == [(side, side) for side in sides]
    assert [feature.shape[1] for feature in found] == backbone.channels
    # timm loads the same file with its own functions, as it does those that it downloads.
    config = timm.get_pretrained_cfg(name)
    overlay = {"state_dict": state, "mean": config.mean}
    options = {"img_size": size} if config.fixed_input_size else {}
    options |= {"pretrained": True, "pretrained_cfg_overlay": overlay, "num_classes": 0}
    with warnings.catch_warnings(action="ignore"):
        whole = timm.create_model(name, **options).eval()
    mean, std = (torch.tensor(one)[:, None, None] for one in (config.mean, config.std))
    arguments = {"indices": layers, "output_fmt": "NCHW", "intermediates_only": True}
    expected = whole.forward_intermediates((images - mean) / std, **arguments)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_position_tokens_are_resampled_to_the_size_of_the_images(tmp_path: Path) -> None:
    path, state = save_whole("small_dinov2", tmp_path)
    backbone = Backbone("small_dinov2", layers=[1], image_size=70)
    backbone.load_weights(str(path))
    first, grid = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    grid = grid.view(1, 37, 37, 32).permute(0, 3, 1, 2)
    small = functional.interpolate(grid, (5, 5), mode="bicubic", antialias=True)
    expected = torch.cat([first, small.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(backbone.features.model.pos_embed.data, expected)


def test_weights_under_the_names_of_their_authors_are_the_same(tmp_path: Path) -> None:
    path, state = save_whole("small_dinov3", tmp_path)
    theirs = {
        name.replace("reg_token", "storage_tokens")
        .replace("gamma_1", "ls1.gamma")
        .replace("gamma_2", "ls2.gamma"): value
        for name, value in state.items()
        if not name.startswith("head")
    }
    torch.save(theirs | {"mask_token": torch.zeros(1, 32)}, tmp_path / "theirs.pth")
    one, other = (Backbone("small_dinov3", layers=[1, 3], image_size=64) for _ in range(2))
    one.load_weights(str(path))
    other.load_weights(str(tmp_path / "theirs.pth"))
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("spoilt", ["blocks.2.attn.qkv.weight", "pos_embed"])
@pytest.mark.parametrize("change", ["missing", "shape", "integers"])
def test_weights_of_another_transformer_are_one_line(
    tmp_path: Path, spoilt: str, change: str
) -> None:
    _, state = save_whole("small_dinov2", tmp_path)
    tensor = state.pop(spoilt)
    if change != "missing":
        state[spoilt] = tensor.int() if change == "integers" else torch.zeros(3, 7, 32)
    torch.save(state, tmp_path / "spoilt.pth")
    backbone = Backbone("small_dinov2", layers=[3], image_size=70)
    with pytest.raises(ModelError, match=rf"spoilt\.pth.*'{spoilt}'.*Give weights of that"):
        backbone.load_weights(str(tmp_path / "spoilt.pth"))


@pytest.mark.parametrize(
    ("name", "chosen", "size", "message"),
    [
        ("small_dinov2", {"layers": [1]}, 256, "256, not a multiple of 14. Use 252 or 266"),
        ("small_dinov3", {"layers": [1]}, 250, "250, not a multiple of 16. Use 240 or 256"),
        ("small_swin", {"layers": [1]}, 66, "66, not a multiple of 4. Use 64 or 68"),
        ("test_maxvit", {"strides": [8]}, 90, "does not serve for images of 90 x 90"),
        ("small_clip", {"layers": [1, 4]}, 64, "no layer 4, but 4 layers. .* 0 to 3"),
        ("small_clip", {"layers": [-5]}, 64, "no layer -5, but 4 layers"),
        ("small_clip", {"layers": [-1, 3]}, 64, r"do not ascend, they are \[3, 3\]"),
        ("small_clip", {"strides": [8]}, 64, r"no layer of stride 8, but \[16\]"),
        ("small_clip", {"strides": [16]}, 64, "has 4 layers of stride 16. .*'realnet.layers'"),
        ("small_clip.x", {"layers": [1]}, 64, "no backbone 'small_clip.x'"),
    ],
)
def test_choice_that_does_not_serve_is_one_line(
    name: str, chosen: dict[str, list[int]], size: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Backbone(name, **chosen, image_size=size)


@pytest.mark.parametrize("given", [{}, {"strides": [4], "layers": [0]}])
def test_layers_are_chosen_in_one_way(given: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="either by strides or by layers"):
        Backbone("small_swin", **given)


def changed(recipe: Recipe, folder: Path, name: str, size: int, **changes: Any) -> Recipe:
    """The recipe with a transformer, whose weights are put into a folder."""
    path, _ = save_whole(name, folder)
    realnet = {"backbone": name, "weights": str(path), "image_size": size, "layers": [1, 3]}
    return recipe.override({f"realnet.{key}": one for key, one in (realnet | changes).items()})


@pytest.mark.parametrize(
    ("architecture", "exports"),
    [
        ("independent", False),
        pytest.param("neighbour-aligned", False, marks=pytest.mark.slow),
        ("retrieval", True),
        pytest.param("independent", True, marks=pytest.mark.slow),
    ],
)
def test_fit_goes_on_and_its_model_scores_and_is_exported(
    recipe: Recipe,
    photographs: Path,
    corpus: Path,
    tmp_path: Path,
    shallow: None,
    architecture: str,
    exports: bool,
) -> None:
    # Maps of 5 x 5 cannot be halved.
    options = {"architecture": architecture, "memory_size": 50}
    options |= {"max_steps": 2, "validate_every": 1}
    own = changed(recipe, tmp_path, "small_dinov2", 70, **options)
    whole, halfway = tmp_path / "whole", tmp_path / "halfway"
    fit_realnet(own, ["disc"], photographs, corpus, whole, CPU)
    shutil.copytree(whole, halfway)
    shutil.rmtree(halfway / "checkpoints/disc/step-00000002")
    shutil.rmtree(halfway / "disc")
    fit_realnet(own, ["disc"], photographs, corpus, halfway, CPU)
    first, second = (load_file(one / "disc/model.safetensors") for one in (whole, halfway))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert json.loads((whole / "disc/config.json").read_text())["layers"] == [1, 3]

    found = evaluate(own, ["disc"], photographs, whole, tmp_path / "evaluation", CPU)
    assert 0 <= found["categories"]["disc"]["image_auroc"] <= 1
    tests = photographs / "disc/test"
    count = predict(whole / "disc", [tests], tmp_path / "predictions", CPU).photographs
    lines = (tmp_path / "predictions/predictions.jsonl").read_text().splitlines()
    assert len({json.loads(line)["score"] for line in lines}) == len(lines) == count
    if exports:
        require_equal_export(whole / "disc", 70, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 64}, "64, not a multiple of 14. Use 56 or 70"),
        ({"layers": [1, 4]}, "no layer 4, but 4 layers"),
        ({"num_max": 40}, "RRS cannot take 40 of the 32 channels that AFS keeps"),
    ],
)
def test_recipe_that_does_not_serve_is_refused_before_anything_is_written(
    recipe: Recipe,
    photographs: Path,
    corpus: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    own = changed(recipe, tmp_path, "small_dinov2", 70, **changes)
    with pytest.raises(ModelError, match=message):
        fit_realnet(own, ["disc"], photographs, corpus, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def require_equal_export(folder: Path, size: int, out: Path) -> None:
    """Exports a model; another runtime sees the same in images of its size."""
    images = torch.rand(4, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = RealNet.from_pretrained(folder).eval()(images).anomaly_map.numpy()
    assert export_realnet(folder, out) <= 1e-4
    session = onnxruntime.InferenceSession(out)
    maps = session.run(["anomaly_map"], {"images": images.numpy()})[0]
    assert np.abs(maps - expected).max() <= 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "small_dinov3",
        pytest.param("small_siglip", marks=pytest.mark.slow),
        pytest.param("small_swin", marks=pytest.mark.slow),
    ],
)
def test_other_families_are_exported(name: str, tmp_path: Path, recipe: Recipe) -> None:
    # Without networks that reconstruct, which take long to trace.
    options = {"architecture": "retrieval", "memory_size": 50, "layers": [1, 2]}
    save_detector(tmp_path / "model", strides=None, backbone=name, **options)
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    require_equal_export(tmp_path / "model", 64, tmp_path / "model.onnx")
    if name != "small_dinov3":
        assert export_realnet(tmp_path / "model", tmp_path / "model.pt2") <= 1e-4


def test_model_saved_before_there_were_layers_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RealNet("test_convnext", 64, [8, 16], [8, 8], num_max=4, num_mean=4).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("layers") is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = RealNet.from_pretrained(tmp_path).eval()(images)
        assert torch.equal(found.logits, model(images).logits)


def test_same_layers_measure_the_distance_from_normal_images(
    recipe: Recipe, tmp_path: Path
) -> None:
    backbone = open_backbone(changed(recipe, tmp_path, "small_swin", 64))
    assert [feature.shape[2] for feature in backbone(torch.rand(1, 3, 64, 64))] == [8, 2]
