from __future__ import annotations

import pytest
import torch

from sia_gen.config.settings import Diffusion
from sia_gen.errors import RecipeError
from sia_gen.networks.unet import PRESETS, build_unet
from tests.small_networks import PRESET

PARAMETERS = {"tiny": 4.3, "small": 21.3, "base": 103.9, "adm-256": 552.8}
STRIDES = {"tiny": 8, "small": 8, "base": 16, "adm-256": 32}


def settings(**changes: object) -> Diffusion:
    return Diffusion.model_validate({"preset": "tiny", "image_size": 32, **changes})


@pytest.mark.parametrize("preset", PARAMETERS)
def test_presets_have_the_size_they_are_known_for(preset: str) -> None:
    with torch.device("meta"):
        unet = build_unet(settings(preset=preset, variance="learned_range", image_size=256), 3)
    millions = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[preset], abs=0.1)
    assert PRESETS.keys() == {*PARAMETERS, PRESET}


@pytest.mark.parametrize("multiple", [2, 3, 5])
@pytest.mark.parametrize("preset", PARAMETERS)
def test_any_multiple_of_the_stride_goes_through(preset: str, multiple: int) -> None:
    size = multiple * STRIDES[preset]
    with torch.device("meta"):
        unet = build_unet(settings(preset=preset, image_size=size), 1)
        output = unet(torch.empty(2, 1, size, size), torch.zeros(2)).sample
    assert output.shape == (2, 1, size, size)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_other_sizes_are_refused_with_one_that_fits(preset: str) -> None:
    stride = STRIDES[preset]
    with pytest.raises(RecipeError, match=f"{2 * stride + 4} is not a multiple of {stride}. Use"):
        build_unet(settings(preset=preset, image_size=2 * stride + 4), 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_predicted_for_every_channel(channels: int) -> None:
    unet = build_unet(settings(), channels)
    assert unet(torch.zeros(1, channels, 32, 32), 5).sample.shape[1] == channels


def test_learned_variance_doubles_the_output() -> None:
    unet = build_unet(settings(variance="learned_range"), 3)
    assert unet(torch.zeros(1, 3, 32, 32), 5).sample.shape == (1, 6, 32, 32)


def test_classes_change_what_is_predicted() -> None:
    torch.manual_seed(0)
    unet = build_unet(settings(), 1, num_classes=3).eval()
    with torch.no_grad():
        images = torch.zeros(2, 1, 32, 32)
        output = unet(images, 5, class_labels=torch.tensor([0, 2])).sample
    assert (output[0] - output[1]).abs().max() > 1e-4


def test_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no 'smal'.*'small'"):
        build_unet(settings(preset="smal"), 1)
