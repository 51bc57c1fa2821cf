from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from sia_gen import RealNet
from sia_gen.realnet.model import RealNetObjective, image_score
from tests.small_networks import BACKBONE

IMAGES = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> RealNet:
    torch.manual_seed(0)
    return RealNet(
        backbone=BACKBONE,
        image_size=64,
        strides=[8, 16],
        channels_kept=[12, 16],
        num_max=6,
        num_mean=6,
    ).eval()


def test_output_has_the_shapes_and_ranges_of_the_contract(model: RealNet) -> None:
    with torch.no_grad():
        output = model(IMAGES)
    assert output.anomaly_map.shape == (3, 1, 64, 64)
    assert output.logits.shape == (3, 2, 64, 64)
    assert output.score.shape == (3,)
    assert output.anomaly_map.min() >= 0
    assert output.anomaly_map.max() <= 1
    torch.testing.assert_close(output.anomaly_map, output.logits.softmax(dim=1)[:, 1:])


def test_grey_images_are_colour_images_of_three_equal_channels(model: RealNet) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES).score, model(IMAGES.repeat(1, 3, 1, 1)).score)


def test_score_is_the_highest_mean_of_a_window() -> None:
    maps = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(1))
    expected = [
        max(
            float(image[0, row : row + 16, column : column + 16].double().mean())
            for row in range(5)
            for column in range(9)
        )
        for image in maps
    ]
    np.testing.assert_allclose(image_score(maps, 16).numpy(), expected, atol=1e-6)


def test_saved_model_scores_the_same(model: RealNet, tmp_path: Path) -> None:
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path)
    loaded = RealNet.from_pretrained(tmp_path).eval()
    assert [path.suffix for path in tmp_path.glob("model*")] == [".safetensors"]
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    # The losses of channels are NaN until AFS has run.
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True)
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGES).score, model(IMAGES).score)


def test_backbone_is_frozen_and_stays_in_evaluation_mode(model: RealNet) -> None:
    model.train()
    assert not model.backbone.training
    assert not any(module.training for module in model.backbone.modules())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert all(not feature.requires_grad for feature in model.features(IMAGES))
    model.eval()


def test_objective_is_reconstruction_error_plus_cross_entropy(model: RealNet) -> None:
    normal = IMAGES.flip(0)
    mask = (torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2)) > 0.8).float()
    with torch.no_grad():
        reconstruction, segmentation = RealNetObjective(model)(IMAGES, normal, mask)
        features, targets = model.selected_features(IMAGES), model.selected_features(normal)
        found = model.reconstruct(features)
        logits = model(IMAGES).logits.double()
    errors = [
        float(((a.double() - b.double()) ** 2).mean()) for a, b in zip(found, targets, strict=True)
    ]
    assert float(reconstruction) == pytest.approx(sum(errors), rel=1e-4)
    probability = torch.where(mask[:, 0] > 0, logits.softmax(1)[:, 1], logits.softmax(1)[:, 0])
    assert float(segmentation) == pytest.approx(float(-probability.log().mean()), rel=1e-4)


def test_objective_trains_everything_but_the_backbone(model: RealNet) -> None:
    model.train()
    mask = torch.zeros(3, 1, 64, 64)
    mask[:, :, :20, :20] = 1
    sum(RealNetObjective(model)(IMAGES, IMAGES.flip(0), mask)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any(name.startswith("backbone") for name in trained)
    assert all(dict(model.named_parameters())[name].grad is not None for name in trained)
    model.zero_grad()
    model.eval()


def test_neighbouring_layers_are_reconstructed_together_at_the_stride_of_the_finer() -> None:
    torch.manual_seed(0)
    settings = {"num_max": 6, "num_mean": 6, "architecture": "neighbour-aligned"}
    model = RealNet(BACKBONE, 64, [4, 8, 16], [6, 8, 10], **settings).eval()
    with torch.no_grad():
        blocks = model.selected_features(IMAGES)
        assert [tuple(block.shape[1:]) for block in blocks] == [(14, 16, 16), (10, 4, 4)]
        first, second, _ = model.afs(model.features(IMAGES))
        assert torch.equal(blocks[0][:, :6], first)
        finer = functional.interpolate(second, (16, 16), mode="bilinear", align_corners=True)
        torch.testing.assert_close(blocks[0][:, 6:], finer)
        assert model(IMAGES).anomaly_map.shape == (3, 1, 64, 64)
    assert model.rrs.ranking_norm.num_features == 24


@pytest.mark.parametrize("rrs", ["max", "random", "all"])
def test_ablations_are_saved_with_the_model(tmp_path: Path, rrs: str) -> None:
    settings = {"num_max": 3, "num_mean": 3, "rrs": rrs, "architecture": "neighbour-aligned"}
    model = RealNet(BACKBONE, 64, [8, 16], [6, 8], **settings).eval()
    model.save_pretrained(tmp_path)
    loaded = RealNet.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGES).logits, model(IMAGES).logits)


def test_scores_are_not_rounded_by_what_networks_compute_in(model: RealNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(IMAGES)
    for tensor in (output.anomaly_map, output.logits, output.score):
        assert tensor.dtype == torch.float32
    assert not torch.equal(output.score, output.score.bfloat16().float())


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'indepndent' .did"):
        RealNet("tf_efficientnet_lite0", 64, [8], [8], 4, 4, architecture="indepndent")
