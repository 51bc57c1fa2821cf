"""The decoder of a retrieval that sees features, and far around every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from sia_gen import RealNet
from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.deployment.export import export_realnet
from sia_gen.realnet.context import DILATIONS, RARE, ContextDecoder
from sia_gen.realnet.inference import load_realnet
from sia_gen.realnet.memory import neighbourhoods
from sia_gen.realnet.model import RealNetObjective
from tests.small_networks import save_detector

IMAGES = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    options: dict[str, Any] = {"architecture": "retrieval", "memory_size": 50, "reflect": True}
    save_detector(folder, strides=[4, 8, 16], memory_strides=[8, 16], **options)
    return folder


@pytest.fixture
def model(folder: Path) -> RealNet:
    return load_realnet(folder).model


def test_logits_have_the_size_of_the_finest_features_and_say_that_little_is_anomalous() -> None:
    decoder = ContextDecoder([3, 5]).eval()
    logits = decoder([torch.rand(2, 3, 12, 20), torch.rand(2, 5, 6, 10)])
    assert logits.shape == (2, 2, 12, 20)
    torch.nn.init.zeros_(decoder.out.weight)
    found = decoder([torch.rand(1, 3, 8, 8), torch.rand(1, 5, 4, 4)])
    torch.testing.assert_close(found[0, 1] - found[0, 0], torch.full((8, 8), RARE))


def test_a_pixel_depends_on_what_is_far_away_and_not_on_more() -> None:
    torch.manual_seed(0)
    reach, middle = sum(DILATIONS) + 1, 40
    decoder = ContextDecoder([4]).eval()
    features = torch.rand(1, 4, 2 * middle + 1, 2 * middle + 1, requires_grad=True)
    decoder([features])[0, 1, middle, middle].backward()
    assert features.grad is not None
    rows, columns = features.grad[0].abs().sum(dim=0).nonzero().T
    for places in (rows, columns):
        assert int(places.min()) == middle - reach
        assert int(places.max()) == middle + reach


def test_only_the_layers_of_the_memory_are_compared(model: RealNet) -> None:
    assert model.memory is not None
    assert model.memory.patches.shape == (50, 16)
    with torch.no_grad():
        patches, *features = model.selected_features(IMAGES)
        assert [one.shape[1:] for one in features] == [(8, 16, 16), (8, 8, 8), (8, 4, 4)]
        torch.testing.assert_close(patches, neighbourhoods(features[1:]))
        assert model(IMAGES).anomaly_map.shape == (3, 1, 64, 64)


def test_the_decoder_learns_and_nothing_else(model: RealNet) -> None:
    mask = torch.zeros(3, 1, 64, 64)
    mask[:, :, 20:30, 20:40] = 1
    sum(RealNetObjective(model)(IMAGES, IMAGES, mask)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("context."), name


def test_it_is_exported(folder: Path, tmp_path: Path, small: Recipe, shallow: None) -> None:
    (folder / "recipe.yaml").write_text(small.to_yaml())
    export_realnet(folder, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(["anomaly_map"], {"images": IMAGES.numpy()})[0]
    with torch.no_grad():
        expected = load_realnet(folder).model(IMAGES).anomaly_map
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"memory_strides": [8]}, "applies to retrieval"),
        ({"memory_strides": [2], "architecture": "retrieval"}, "not all among 'strides'"),
    ],
)
def test_strides_that_cannot_be_recalled_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RealNetFit.model_validate({"strides": [4, 8], "channels_kept": [8, 8]} | changes)
