"""Classifiers of noisy images from ADM checkpoints, as `NoisyClassifier`."""

from __future__ import annotations

import itertools
import math

import torch

from sia_gen.diffusion.adm.encoder import (
    ANOTHER_CHECKPOINT,
    GROUPS,
    Conventions,
    State,
    count_blocks,
    dimensions,
    read_encoder,
)
from sia_gen.diffusion.adm.tensors import Names, encoder_names, rename_tensors
from sia_gen.diffusion.adm.unet import ConvertedModel, check_conventions
from sia_gen.errors import ModelError, OptionError
from sia_gen.networks.classifier import NoisyClassifier

POSITIONS = "out.2.positional_embedding"
HEAD: Names = {
    "out.0": ("conv_norm_out",),
    "out.2": ("pool",),
    "out.2.qkv_proj": ("pool.to_q", "pool.to_k", "pool.to_v"),
    "out.2.c_proj": ("classifier",),
}
# All published classifiers have it.
HEAD_CHANNELS = 64


def convert_adm_classifier_state_dict(
    state_dict: State,
    *,
    image_size: int | None = None,
    num_head_channels: int = HEAD_CHANNELS,
) -> ConvertedModel:
    """Converts the classifier of an ADM checkpoint.

    Args:
        state_dict: Tensors under their original names.
        image_size: Checked against the size that the positional embedding tells.
        num_head_channels: Channels per attention head.

    Returns:
        A `NoisyClassifier`.

    Raises:
        ModelError: If a tensor is missing, unexpected or of the wrong shape, which it names.
        OptionError: If the classifier is for another size.
    """
    encoder = read_encoder(state_dict, count_levels(state_dict))
    # One position is that of the mean.
    side = math.isqrt(max(dimensions(state_dict, POSITIONS, 2)[1] - 1, 1))
    size = side * encoder.stride
    if image_size not in (None, size):
        raise OptionError(
            problem=f"--image-size {image_size}: this classifier is for {size} pixels.",
            fix="Leave it out.",
        )
    conventions = Conventions(size, num_head_channels)
    check_conventions(encoder, conventions)
    config = {
        "sample_size": size,
        "in_channels": encoder.in_channels,
        "num_classes": dimensions(state_dict, "out.2.c_proj.weight", 3)[0],
        "block_out_channels": encoder.channels,
        "layers_per_block": encoder.layers,
        "down_block_types": encoder.down_block_types,
        "attention_head_dim": num_head_channels,
        "norm_num_groups": GROUPS,
        "timestep_features": encoder.features,
    }
    with torch.device("meta"):
        model = NoisyClassifier(**config)
    tensors = rename_tensors(state_dict, encoder_names(encoder) | HEAD, model, conventions)
    return ConvertedModel(NoisyClassifier, config, tensors, conventions)


def count_levels(state: State) -> int:
    """How many resolutions there are.

    The last level's blocks all attend, and before them comes a downsampling block that does not.
    """
    blocks = count_blocks(state)
    attends = [
        any(name.startswith(f"input_blocks.{block}.1.") for name in state)
        for block in range(blocks)
    ]
    layers = len(list(itertools.takewhile(bool, reversed(attends))))
    if not layers or blocks % (layers + 1):
        raise ModelError(
            problem=f"{blocks} 'input_blocks' of which the last {layers} attend are no ADM "
            "classifier.",
            fix=ANOTHER_CHECKPOINT,
        )
    return blocks // (layers + 1)
