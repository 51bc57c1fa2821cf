"""Converted UNets compute what the original networks compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_gen.diffusion.adm.architecture import Conventions
from sia_gen.diffusion.adm.convert import CLASS_EMBEDDING, convert_adm_state_dict
from sia_gen.errors import ModelError, OptionError, UserError
from sia_gen.networks.unet import ADMUNet2DModel
from tests.diffusion.original_adm import (
    UNET_64,
    UNET_128,
    UNET_256,
    UNET_512,
    OriginalUNet,
    inputs,
    randomised,
    relative_error,
    small_unet,
)

State = dict[str, torch.Tensor]
LIMIT = 1e-5
SMALL_STATE = small_unet(classes=3).state_dict()


def convert_small(state: State, **options: Any) -> Any:
    return convert_adm_state_dict(state, **{"image_size": 8, **options}).model


@torch.no_grad()
def error_of(original: OriginalUNet, size: int, classes: int | None, **options: Any) -> float:
    images, timesteps = inputs(size)
    labels = None if classes is None else torch.tensor([0, classes - 1])
    model = convert_adm_state_dict(original.state_dict(), **options).model
    ours = model(images, timesteps, class_labels=labels).sample
    return relative_error(ours, original(images, timesteps, labels))


@pytest.mark.parametrize("classes", [None, 5])
@pytest.mark.parametrize(
    ("width", "architecture", "size"), [(32, UNET_128, 16), (32, UNET_256, 32)]
)
def test_narrow_copy_of_a_published_network_equals_the_original(
    width: int, architecture: dict[str, Any], size: int, classes: int | None
) -> None:
    original = randomised(OriginalUNet(width, **architecture, classes=classes))
    assert error_of(original, size, classes) < LIMIT


def test_narrow_copy_of_the_64_pixel_network_equals_the_original() -> None:
    original = randomised(OriginalUNet(32, **UNET_64, head_channels=32, classes=5))
    assert error_of(original, 16, 5, num_head_channels=32) < LIMIT


def test_narrow_copy_of_the_512_pixel_network_equals_the_original() -> None:
    original = randomised(OriginalUNet(64, **UNET_512, classes=5))
    assert error_of(original, 64, 5) < LIMIT


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("heads", [{"num_heads": 4}, {"num_head_channels": 32}])
def test_conventions_given_by_the_caller_are_followed(split: bool, heads: dict[str, int]) -> None:
    theirs = {"heads": heads.get("num_heads"), "head_channels": heads.get("num_head_channels", 64)}
    original = small_unet(**theirs, split=split)
    order = "split" if split else "interleaved"
    assert error_of(original, 8, None, image_size=8, qkv_order=order, **heads) < LIMIT
    other = "interleaved" if split else "split"
    assert error_of(original, 8, None, image_size=8, qkv_order=other, **heads) > 1000 * LIMIT


@pytest.mark.parametrize("out_channels", [1, 2])
def test_grey_network_equals_the_original(out_channels: int) -> None:
    original = small_unet(in_channels=1, out_channels=out_channels)
    images, timesteps = inputs(8, channels=1)
    with torch.no_grad():
        ours = convert_small(original.state_dict())(images, timesteps).sample
        assert relative_error(ours, original(images, timesteps)) < LIMIT


@pytest.mark.parametrize(
    ("width", "architecture", "millions", "conventions", "model_class"),
    [
        (192, UNET_64, 296, Conventions(64, 64, None, "split", "squaredcos_cap_v2"), UNet2DModel),
        (256, UNET_128, 422, Conventions(128, None, 4), ADMUNet2DModel),
        (256, UNET_256, 554, Conventions(256, 64, None), UNet2DModel),
        (256, UNET_512, 559, Conventions(512, 64, None), ADMUNet2DModel),
    ],
)
def test_published_networks_are_recognised_and_have_their_parameters(
    width: int,
    architecture: dict[str, Any],
    millions: int,
    conventions: Conventions,
    model_class: type,
) -> None:
    """The numbers of parameters are those of the paper's table of hyperparameters."""
    with torch.device("meta"):
        original = OriginalUNet(width, **architecture, classes=1000)
    converted = convert_adm_state_dict(original.state_dict())
    assert converted.conventions == conventions
    model = converted.model
    assert type(model) is model_class
    assert round(sum(value.numel() for value in model.parameters()) / 1e6) == millions


def test_new_classes_replace_the_class_embedding_alone() -> None:
    before = convert_small(SMALL_STATE).state_dict()
    after = convert_small(SMALL_STATE, new_classes=7).state_dict()
    assert after["class_embedding.weight"].shape == (7, 256)
    assert after["class_embedding.weight"].std() == pytest.approx(1, abs=0.1)
    again = convert_small(SMALL_STATE, new_classes=7).state_dict()
    assert torch.equal(after["class_embedding.weight"], again["class_embedding.weight"])
    for name in before.keys() - {"class_embedding.weight"}:
        assert torch.equal(before[name], after[name]), name


def test_network_without_classes_starts_with_new_ones_unchanged() -> None:
    original = small_unet()
    images, timesteps = inputs(8)
    model = convert_small(original.state_dict(), new_classes=2)
    with torch.no_grad():
        ours = model(images, timesteps, class_labels=torch.tensor([0, 1])).sample
        assert relative_error(ours, original(images, timesteps)) < LIMIT
    assert model.class_embedding.weight.requires_grad


def test_half_precision_tensors_become_float32() -> None:
    model = convert_small({name: value.half() for name, value in SMALL_STATE.items()})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def refusal(state: State, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        convert_small(state, **options)
    return caught.value


@given(st.sampled_from(sorted(SMALL_STATE)))
@settings(max_examples=20)
def test_missing_tensor_is_named(name: str) -> None:
    state = {key: value for key, value in SMALL_STATE.items() if key != name}
    if name == CLASS_EMBEDDING:
        assert convert_small(state).config.num_class_embeds is None
    else:
        assert refusal(state).problem == f"the tensor '{name}' is missing."


@given(
    st.sampled_from(sorted(SMALL_STATE)), st.sampled_from(["longer", "deeper", "integer", "number"])
)
def test_tensor_of_a_wrong_shape_or_kind_is_named(name: str, change: str) -> None:
    tensor = SMALL_STATE[name]
    if change == "longer":
        tensor = torch.cat([tensor, tensor[:1]])
    elif change == "deeper":
        tensor = tensor[None]
    elif change == "number":
        tensor = tensor.sum()
    else:
        tensor = tensor.int()
    # An embedding of one more class is another network, not a damaged one.
    if (name, change) != (CLASS_EMBEDDING, "longer"):
        assert f"'{name}'" in refusal({**SMALL_STATE, name: tensor}).problem


@pytest.mark.parametrize("name", ["time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"])
def test_empty_tensor_is_named(name: str) -> None:
    assert f"'{name}'" in refusal({**SMALL_STATE, name: SMALL_STATE[name][:, :0]}).problem


@pytest.mark.parametrize("name", ["extra", "out.3.weight", "input_blocks.99.0.weight"])
def test_unexpected_tensor_is_named(name: str) -> None:
    error = refusal({**SMALL_STATE, name: torch.zeros(1), "zz": torch.zeros(1)})
    assert error.problem == f"there is no place for the tensor '{name}' (and 1 more)."


def test_upsampler_is_refused() -> None:
    state = small_unet(in_channels=6).state_dict()
    assert "one of ADM's upsamplers" in refusal(state).problem


def test_network_with_outputs_of_no_use_is_refused() -> None:
    assert (
        "'out.2.weight' makes 4 channels"
        in refusal(small_unet(out_channels=4).state_dict()).problem
    )


def test_size_of_an_unpublished_network_must_be_given() -> None:
    with pytest.raises(ModelError, match=r"channels \(64, 128\).*Give it with --image-size"):
        convert_adm_state_dict(SMALL_STATE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 15}, "multiples of 2"),
        ({"image_size": 0}, "multiples of 2"),
        ({"num_heads": 2, "num_head_channels": 32}, "exclude each other"),
        ({"new_classes": 0}, "at least one class"),
    ],
)
def test_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    error = refusal(SMALL_STATE, **options)
    assert isinstance(error, OptionError)
    assert message in error.problem


@pytest.mark.parametrize("heads", [{"num_heads": 5}, {"num_head_channels": 48}, {"num_heads": -1}])
def test_heads_that_do_not_divide_the_channels_are_refused(heads: dict[str, int]) -> None:
    assert "attention over 128 channels" in refusal(SMALL_STATE, **heads).problem
