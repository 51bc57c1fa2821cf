from __future__ import annotations

import pytest
import torch

from sia_gen.errors import ModelError
from sia_gen.realnet.backbone import Backbone
from tests.small_networks import BACKBONE


def test_standardised_features_have_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    backbone = Backbone(BACKBONE, [8, 16])
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    plain = backbone(images)
    backbone.standardise(map(backbone, images.split(3)))
    for feature, before in zip(backbone(images), plain, strict=True):
        wide = before.std(dim=(0, 2, 3)) > 1e-2
        assert wide.any()
        mean, std = feature.mean(dim=(0, 2, 3)), feature.std(dim=(0, 2, 3))
        assert mean[wide].abs().max() < 1e-3
        assert (std[wide] - 1).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet34", [4, 8, 16, 32]),
        ("resnet50", [4, 8, 16, 32]),
        ("efficientnet_b4", [8, 16, 32]),
        ("convnext_atto", [4, 8, 16, 32]),
        ("tf_efficientnet_lite0", [2, 4]),
        # Its extractor leaves out the first layer unless it is asked for.
        ("dla46_c", [4, 8]),
    ],
)
def test_any_convolutional_network_of_timm_gives_the_layers_of_the_strides(
    name: str, strides: list[int]
) -> None:
    backbone = Backbone(name, strides)
    features = backbone(torch.rand(1, 3, 64, 64))
    assert [64 // feature.shape[-1] for feature in features] == strides
    assert [feature.shape[1] for feature in features] == backbone.channels


@pytest.mark.parametrize(
    ("name", "strides", "message"),
    [
        ("wide_resnet50", [4], r"no backbone 'wide_resnet50' \(did you mean 'wide_resnet50_2'\?\)"),
        (BACKBONE, [64], r"no layer of stride 64, but \[2, 4, 8, 16, 32\]"),
    ],
)
def test_backbone_that_does_not_serve_is_one_line(
    name: str, strides: list[int], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Backbone(name, strides)
