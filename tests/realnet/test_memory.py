"""Reconstruction by retrieval: the nearest normal patch, and models that have a memory."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.realnet import memory
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.realnet.memory import (
    DECODER_WEIGHT,
    MapFusion,
    PatchMemory,
    coreset,
    first_of,
    neighbourhoods,
)
from sia_gen.realnet.model import EVEN_ODDS, image_score
from sia_gen.realnet.selection import look_at_normal, threshold_for
from tests.realnet.conftest import CPU, data_of
from tests.small_networks import BACKBONE

Fit = Callable[..., Path]


def filled(patches: torch.Tensor) -> PatchMemory:
    """A memory of these patches, (M, C), of which every other one is of the same image."""
    found = PatchMemory(patches.shape[1], len(patches))
    found.patches.copy_(patches)
    found.numbers.copy_(torch.arange(len(patches)) % 2)
    return found


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_patches_become_the_nearest_normal_ones(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(memory, "BLOCK", block)
    torch.manual_seed(0)
    patches, features = torch.randn(30, 5), torch.randn(3, 5, 4, 6)
    found = filled(patches)(features)
    assert found.shape == features.shape
    for image, reconstruction in zip(features, found, strict=True):
        for y, x in np.ndindex(4, 6):
            distances = (patches.double() - image[:, y, x].double()).square().sum(dim=1)
            assert torch.equal(reconstruction[:, y, x], patches[distances.argmin()])


def test_images_are_compared_with_patches_of_others() -> None:
    torch.manual_seed(0)
    patches = torch.randn(20, 3)
    # The images are what the memory holds.
    features = patches.T.reshape(1, 3, 4, 5).expand(2, -1, -1, -1)
    assert torch.equal(filled(patches)(features), features)
    found = filled(patches)(features, torch.tensor([0, 1]))
    for number, reconstruction in enumerate(found):
        others = {tuple(patch.tolist()) for patch in patches[1 - number :: 2]}
        nearest = reconstruction.flatten(1).T
        assert {tuple(patch.tolist()) for patch in nearest} <= others


@given(images=st.integers(1, 12), size=st.integers(1, 60), seed=st.integers(0, 3))
def test_memory_holds_patches_and_the_image_of_each(images: int, size: int, seed: int) -> None:
    # Each patch is the number of its image and its own number.
    image = torch.arange(float(images)).view(-1, 1, 1, 1).expand(-1, 1, 2, 3)
    place = torch.arange(6.0).view(1, 1, 2, 3).expand(images, -1, -1, -1)
    for choose in (first_of, coreset):
        found = PatchMemory(2, size)
        found.fill(torch.cat([image, place], dim=1).split(2), range(images), seed, choose)
        assert torch.equal(found.numbers, found.patches[:, 0].int())
        # None is there twice before all are there.
        distinct = len(found.patches.unique(dim=0))
        assert distinct == min(size, 6 * images)


def test_candidates_are_as_many_of_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CANDIDATES", 8)
    offered = list[torch.Tensor]()

    def watched(patches: torch.Tensor, size: int) -> torch.Tensor:
        offered.append(patches)
        return first_of(patches, size)

    features = torch.arange(4.0).view(-1, 1, 1, 1).expand(-1, 1, 5, 5)
    PatchMemory(1, 3).fill(features.split(3), range(4), 0, watched)
    assert offered[0][:, 0].sort().values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def greedy(patches: torch.Tensor, size: int) -> list[int]:
    """What `coreset` chooses, by the definition, if distances are exact."""
    chosen = [0]
    while len(chosen) < size:
        apart = torch.cdist(patches, patches[chosen]).amin(dim=1)
        chosen.append(int(apart.argmax()))
    return chosen


def test_coreset_is_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        return torch.eye(rows, columns)

    patches = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(memory.torch, "randn", as_it_is)
    assert coreset(patches, 10).tolist() == greedy(patches, 10)


def test_coreset_keeps_what_is_rare() -> None:
    patches = torch.zeros(1000, 6)
    patches[500], patches[700] = 3.0, -3.0
    patches += 0.1 * torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    assert {500, 700} <= {*coreset(patches, 3).tolist()}
    # All of them, each once, if as many are asked for.
    assert coreset(patches, 1000).unique().numel() == 1000


def test_filling_depends_on_the_seed_alone() -> None:
    features = torch.randn(6, 4, 3, 3)
    one, same, other = PatchMemory(4, 20), PatchMemory(4, 20), PatchMemory(4, 20)
    for found, batch, seed in ((one, 2, 0), (same, 5, 0), (other, 2, 1)):
        found.fill(features.split(batch), range(6), seed, coreset)
    assert torch.equal(one.patches, same.patches)
    assert not torch.equal(one.patches, other.patches)


def test_patches_see_their_neighbourhood_in_every_layer() -> None:
    layers = [torch.randn(1, 2, 4, 4), torch.randn(1, 3, 2, 2)]
    found = neighbourhoods(layers)
    assert found.shape == (1, 5, 4, 4)
    assert found[0, 0, 1, 2] == pytest.approx(float(layers[0][0, 0, 0:3, 1:4].mean()), abs=1e-6)
    # The padding counts as zeros, as in PatchCore.
    assert found[0, 1, 0, 0] == pytest.approx(float(layers[0][0, 1, :2, :2].sum()) / 9, abs=1e-6)


def test_maps_are_added_in_units_of_normal_pixels() -> None:
    fusion = MapFusion()
    normal = torch.tensor([[1.0, 3.0], [-4.0, -8.0]]).view(1, 2, 1, 2)
    fusion.measure([normal, normal.flip(3)])
    maps = torch.tensor([5.0, 2.0]).view(1, 2, 1, 1)
    # (5 - 2) / 1 and (2 + 6) / 2
    assert fusion(maps).item() == pytest.approx(3 + DECODER_WEIGHT * 4)


def test_soft_maps_grow_as_logarithms_beyond_the_limit() -> None:
    fusion = MapFusion(weight=0.6, limit=3.0)
    maps = torch.tensor([[0.01, 300.0], [-0.02, 5.0]]).reshape(1, 2, 2, 1)
    found = fusion(maps).flatten().tolist()
    expected = [
        3 * math.asinh(first / 3) + 0.6 * 3 * math.asinh(second / 3)
        for first, second in [(0.01, -0.02), (300.0, 5.0)]
    ]
    assert found == pytest.approx(expected)
    assert found[0] == pytest.approx(0.01 - 0.6 * 0.02, rel=1e-4)
    assert found[1] < 20


def test_maps_of_one_value_have_units_too() -> None:
    fusion = MapFusion()
    fusion.measure([torch.full((2, 2, 3, 3), 1e4)])
    assert fusion(torch.full((1, 2, 1, 1), 2e4)).isfinite().all()


@pytest.fixture
def fit(tmp_path: Path, corpus: Path, photographs: Path, recipe: Recipe) -> Fit:
    """Fits a model that retrieves patches: `fit("out", joint=True)`."""

    def call(out: str, **changes: object) -> Path:
        settings = {"architecture": "retrieval", "memory_size": 50, "rrs": "all"} | changes
        changed = recipe.override({f"realnet.{name}": value for name, value in settings.items()})
        categories = changed.categories if changed.realnet.joint else ["disc"]
        fit_realnet(changed, categories, photographs, corpus, tmp_path / out, CPU)
        return tmp_path / out

    return call


def test_interrupted_fit_ends_with_the_same_weights(fit: Fit, tmp_path: Path) -> None:
    whole = fit("whole")
    out = shutil.copytree(whole, tmp_path / "halfway")
    shutil.rmtree(out / "checkpoints/disc/step-00000004")
    shutil.rmtree(out / "disc")
    fit("halfway")
    first, second = (load_file(one / "disc/model.safetensors") for one in (whole, out))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(name.startswith("reconstruction") for name in first)


@pytest.mark.parametrize("change", [{"joint": True}, {"select_on": "test"}])
def test_fitted_model_is_evaluated(
    fit: Fit, photographs: Path, recipe: Recipe, tmp_path: Path, change: dict[str, object]
) -> None:
    out = fit("out", **change)
    found = evaluate(recipe, ["disc"], photographs, out, tmp_path / "evaluation", CPU)
    assert 0 <= found["categories"]["disc"]["image_auroc"] <= 1


def test_threshold_of_a_rate_is_that_of_photographs_left_out_of_the_memory(
    fit: Fit, photographs: Path, corpus: Path, recipe: Recipe
) -> None:
    folder = fit("out", false_alarm_rate=0.2) / "disc"
    report = json.loads((folder / "fit.json").read_text())
    model, threshold, _ = load_realnet(folder)
    data = data_of(recipe, photographs, corpus)
    scores = [look.score for look in look_at_normal(data, model, CPU.accelerator())]
    expected = list[float]()
    with torch.no_grad():
        for index in range(len(data.fit.normal)):
            image = torch.from_numpy(data.fit.normal[index])[None] / 255
            expected += model(image, torch.tensor([index])).score.tolist()
    assert scores[len(data.validation.normal) :] == pytest.approx(expected, abs=1e-5)
    found = threshold_for(scores, 0.2)
    assert report["threshold"] == threshold == pytest.approx(found.threshold, abs=1e-5)
    assert report["false_alarms"]["images"] == len(scores)
    assert report["false_alarms"]["low"] <= 0.2 <= report["false_alarms"]["high"]


def test_scores_are_those_of_both_maps(fit: Fit) -> None:
    model = load_realnet(fit("out") / "disc").model
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(images)
        features = neighbourhoods(model.afs(model.features(images)))
        apart = torch.cdist(features.flatten(2).transpose(1, 2), model.memory.patches)
        nearest = model.memory.patches[apart.argmin(dim=2)].transpose(1, 2).view_as(features)
        residual = (features - nearest).square()
        logits = functional.interpolate(
            model.rrs([residual]), (64, 64), mode="bilinear", align_corners=True
        )
        distance = functional.interpolate(
            residual.mean(dim=1, keepdim=True).sqrt(), (64, 64), mode="bilinear"
        )
    maps = torch.cat([distance, logits[:, 1:] - logits[:, :1]], dim=1)
    fusion = model.fusion
    standard = (maps - fusion.means.view(2, 1, 1)) / fusion.deviations.view(2, 1, 1)
    expected = standard[:, :1] + DECODER_WEIGHT * standard[:, 1:]
    odds = (output.anomaly_map / (1 - output.anomaly_map)).log()
    assert torch.allclose(odds.sinh() + EVEN_ODDS, expected, rtol=1e-2, atol=1e-2)
    score = image_score(expected, model.score_window)
    assert torch.allclose(output.score, (score - EVEN_ODDS).asinh().sigmoid(), atol=1e-4)


def test_scores_are_told_apart_however_high_they_are() -> None:
    kinds = {"backbone": BACKBONE, "image_size": 64, "strides": [16], "channels_kept": [8]}
    model = RealNet(**kinds, architecture="retrieval", memory_size=4, rrs="all").eval()
    model.fusion.deviations.fill_(1e-3)
    images = torch.rand(4, 3, 64, 64) * torch.arange(1, 5).view(-1, 1, 1, 1) / 4
    with torch.no_grad():
        scores = model(images).score
    assert scores.unique().numel() == 4
    assert scores.max() < 1


def test_most_pixels_of_normal_images_are_hardly_coloured(
    fit: Fit, photographs: Path, corpus: Path, recipe: Recipe
) -> None:
    model = load_realnet(fit("out") / "disc").model
    normal = data_of(recipe, photographs, corpus).validation.normal
    found = predict_images(model, np.stack([*normal]), CPU.accelerator())
    # A pixel as normal as the average is at 0 deviations.
    assert np.median(found.maps) < 0.15
