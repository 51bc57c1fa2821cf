"""Converted classifiers compute what the original networks compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_gen.diffusion.adm.convert import convert_adm_classifier_state_dict
from sia_gen.errors import ModelError, OptionError
from tests.diffusion.original_adm import (
    UNET_64,
    UNET_128,
    UNET_256,
    UNET_512,
    OriginalClassifier,
    inputs,
    randomised,
    relative_error,
    small_classifier,
)

State = dict[str, torch.Tensor]
SMALL_STATE = small_classifier().state_dict()


def architecture(unet: dict[str, Any], layers: int = 2) -> dict[str, Any]:
    """Classifiers have the levels of the UNet they guide, always with 64 channels per head."""
    levels = {name: unet[name] for name in ("multipliers", "attending")}
    return {**levels, "layers": layers}


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "width", "chosen", "head_channels"),
    [
        (16, 32, architecture(UNET_64, layers=4), 32),
        (32, 32, architecture(UNET_128), 32),
        (64, 32, architecture(UNET_256), 64),
        (64, 64, architecture(UNET_512), 64),
    ],
)
def test_narrow_copy_of_a_published_classifier_equals_the_original(
    size: int, width: int, chosen: dict[str, Any], head_channels: int
) -> None:
    network = OriginalClassifier(size, width, **chosen, classes=7, head_channels=head_channels)
    original = randomised(network)
    model = convert_adm_classifier_state_dict(
        original.state_dict(), num_head_channels=head_channels
    ).model
    assert relative_error(model(*inputs(size)), original(*inputs(size))) < 1e-5
    assert (model.config.sample_size, model.config.num_classes) == (size, 7)


@pytest.mark.parametrize(
    ("size", "unet", "layers"),
    [(64, UNET_64, 4), (128, UNET_128, 2), (256, UNET_256, 2), (512, UNET_512, 2)],
)
def test_published_classifiers_are_recognised(size: int, unet: dict[str, Any], layers: int) -> None:
    with torch.device("meta"):
        original = OriginalClassifier(size, 128, **architecture(unet, layers), classes=1000)
    model = convert_adm_classifier_state_dict(original.state_dict()).model
    assert model.config.sample_size == size
    assert model.config.layers_per_block == layers
    ours, theirs = (sum(p.numel() for p in network.parameters()) for network in (model, original))
    assert ours == theirs


@given(st.sampled_from(sorted(SMALL_STATE)))
@settings(max_examples=20)
def test_missing_tensor_is_named(name: str) -> None:
    state = {key: value for key, value in SMALL_STATE.items() if key != name}
    with pytest.raises(ModelError) as caught:
        convert_adm_classifier_state_dict(state)
    assert f"'{name}' is missing" in caught.value.problem


@given(st.sampled_from(sorted(SMALL_STATE)))
@settings(max_examples=20)
def test_tensor_of_a_wrong_shape_is_named(name: str) -> None:
    state = {**SMALL_STATE, name: torch.cat([SMALL_STATE[name], SMALL_STATE[name][:1]])}
    with pytest.raises(ModelError) as caught:
        convert_adm_classifier_state_dict(state)
    assert "'out.2.c_proj." in caught.value.problem or f"'{name}'" in caught.value.problem


def test_unexpected_tensor_is_named() -> None:
    with pytest.raises(ModelError, match=r"no place for the tensor 'label_emb\.weight'"):
        convert_adm_classifier_state_dict({**SMALL_STATE, "label_emb.weight": torch.zeros(3, 256)})


def test_encoder_whose_levels_do_not_show_is_refused() -> None:
    state = {name: value for name, value in SMALL_STATE.items() if ".1.qkv" not in name}
    state = {
        name: value for name, value in state.items() if not name.startswith("input_blocks.3.1")
    }
    with pytest.raises(ModelError, match="no ADM classifier"):
        convert_adm_classifier_state_dict(state)


@pytest.mark.parametrize("columns", [0, 1, 64])
def test_positional_embedding_of_no_square_is_named(columns: int) -> None:
    state = {**SMALL_STATE, "out.2.positional_embedding": torch.zeros(128, columns)}
    with pytest.raises(ModelError, match=r"'out\.2\.positional_embedding'"):
        convert_adm_classifier_state_dict(state)


def test_size_that_is_not_the_classifiers_is_refused() -> None:
    assert (
        convert_adm_classifier_state_dict(SMALL_STATE, image_size=16).conventions.image_size == 16
    )
    with pytest.raises(OptionError, match="this classifier is for 16 pixels"):
        convert_adm_classifier_state_dict(SMALL_STATE, image_size=32)
