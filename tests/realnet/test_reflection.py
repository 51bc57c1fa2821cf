"""Images that are continued by their reflection before the backbone takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sia_gen import RealNet
from sia_gen.config.settings import RealNetFit
from tests.small_networks import BACKBONE

IMAGES = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def model(size: int = 64, *, reflect: bool) -> RealNet:
    torch.manual_seed(0)
    return RealNet(BACKBONE, size, [8, 16], [8, 8], num_max=4, num_mean=4, reflect=reflect).eval()


def test_features_are_the_middle_of_those_of_the_continued_image() -> None:
    one = model(reflect=True)
    continued = np.pad(IMAGES.numpy(), ((0, 0), (0, 0), (32, 32), (32, 32)), mode="reflect")
    whole = model(128, reflect=False).backbone(torch.from_numpy(continued).expand(-1, 3, -1, -1))
    for found, feature, cells in zip(one.features(IMAGES), whole, (4, 2), strict=True):
        assert torch.equal(found, feature[..., cells:-cells, cells:-cells])


def test_features_of_one_shade_differ_less_at_the_edges() -> None:
    shade = torch.full((1, 1, 64, 64), 0.7)

    def spread(reflect: bool) -> float:
        (fine, _) = model(reflect=reflect).features(shade)
        return float(fine.std(dim=(2, 3)).mean())

    assert spread(reflect=True) < 0.5 * spread(reflect=False)


@pytest.mark.parametrize(("size", "margin"), [(32, 16), (33, 32), (64, 32)])
def test_small_images_are_continued_by_less_than_themselves(size: int, margin: int) -> None:
    assert model(size, reflect=True).backbone.margin == margin


def test_layers_by_number_are_refused() -> None:
    with pytest.raises(ValidationError, match="'reflect' needs 'strides'"):
        RealNetFit(layers=[1, 2], channels_kept=[8, 8], reflect=True)
