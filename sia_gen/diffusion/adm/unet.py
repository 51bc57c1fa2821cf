"""UNets of ADM, "Diffusion Models Beat GANs" (arXiv 2105.05233), as diffusers networks.

The architecture is read off the tensors. What they do not tell, see `Conventions`, is known for the
published models by their architecture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import UNet2DModel

from sia_gen.diffusion.adm.encoder import (
    ANOTHER_CHECKPOINT,
    Conventions,
    Encoder,
    State,
    dimensions,
    read_encoder,
)
from sia_gen.diffusion.adm.tensors import decoder_names, encoder_names, rename_tensors
from sia_gen.errors import ModelError, OptionError
from sia_gen.networks.unet import ADM, ADMUNet2DModel

CLASS_EMBEDDING = "label_emb.weight"
# The published networks, by multipliers and residual blocks per level.
PUBLISHED = {
    ((1, 2, 3, 4), 3): Conventions(64, qkv_order="split", beta_schedule="squaredcos_cap_v2"),
    ((1, 1, 2, 3, 4), 2): Conventions(128, num_head_channels=None, num_heads=4),
    ((1, 1, 2, 2, 4, 4), 2): Conventions(256),
    ((0.5, 1, 1, 2, 2, 4, 4), 2): Conventions(512),
}


@dataclass(frozen=True)
class ConvertedModel:
    """A network in diffusers' terms.

    Attributes:
        model_class: Its class.
        config: The arguments of the class.
        state_dict: Its tensors, float32; where nothing had to change, those of the checkpoint.
        conventions: What was taken to be so, because tensors do not tell.
    """

    model_class: type[torch.nn.Module]
    config: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    conventions: Conventions

    def build(self) -> Any:
        """The network, in evaluation mode; it holds the tensors themselves, not copies."""
        with torch.device("meta"):
            model = self.model_class(**self.config)
        model.load_state_dict(self.state_dict, assign=True)
        return model.eval()


def convert_adm_state_dict(
    state_dict: State,
    *,
    image_size: int | None = None,
    num_head_channels: int | None = None,
    num_heads: int | None = None,
    qkv_order: Literal["interleaved", "split"] | None = None,
    beta_schedule: str | None = None,
    new_classes: int | None = None,
) -> ConvertedModel:
    """Converts the UNet of an ADM checkpoint; what is left out is as in the published models.

    Args:
        state_dict: Tensors under their original names.
        image_size: Side of the images.
        num_head_channels: Channels per attention head, or
        num_heads: heads of every attention block.
        qkv_order: Whether the checkpoint has queries, keys and values one after another
            (`"split"`, "new attention order") or per head (`"interleaved"`).
        beta_schedule: The noise schedule, as diffusers calls it.
        new_classes: Takes a fresh class embedding of so many classes in place of the one there is.

    Returns:
        A `UNet2DModel`, or an `ADMUNet2DModel` where that cannot express the network.

    Raises:
        ModelError: If a tensor is missing, unexpected or of the wrong shape, which it names, or if
            the image size is not known.
        OptionError: If the size or the classes make no sense.
    """
    state = dict(state_dict) if new_classes is None else with_classes(state_dict, new_classes)
    encoder = read_encoder(state, count_levels(state))
    check_channels(state, encoder)
    given = {
        "image_size": image_size,
        "num_head_channels": num_head_channels,
        "num_heads": num_heads,
        "qkv_order": qkv_order,
        "beta_schedule": beta_schedule,
    }
    conventions = choose_conventions(encoder, given)
    model_class, config = unet_config(state, encoder, conventions)
    with torch.device("meta"):
        model = model_class(**config)
    names = encoder_names(encoder) | decoder_names(encoder)
    tensors = rename_tensors(state, names, model, conventions)
    return ConvertedModel(model_class, config, tensors, conventions)


def with_classes(state: State, classes: int) -> dict[str, torch.Tensor]:
    """The tensors with a fresh class embedding."""
    if classes < 1:
        raise OptionError(
            problem=f"--new-classes {classes}: a network has at least one class.",
            fix="Leave it out to keep the classes there are.",
        )
    width = dimensions(state, "time_embed.0.weight", 2)[0]
    if CLASS_EMBEDDING in state:
        # As ADM initialises it, reproducibly.
        generator = torch.Generator().manual_seed(0)
        return {**state, CLASS_EMBEDDING: torch.randn(classes, width, generator=generator)}
    # A network without classes goes on as it is until it learns what tells them apart.
    return {**state, CLASS_EMBEDDING: torch.zeros(classes, width)}


def count_levels(state: State) -> int:
    """How many resolutions there are: all but the highest end in an upsampling block."""
    upsamplers = {
        found[1] for name in state if (found := re.match(r"(output_blocks\.\d+\.[12])\.in_l", name))
    }
    return len(upsamplers) + 1


def check_channels(state: State, encoder: Encoder) -> None:
    """Raises `ModelError` if it is no network that makes images from noise alone."""
    outputs = dimensions(state, "out.2.weight", 4)[0]
    if encoder.in_channels == 6:
        raise ModelError(
            problem="this is one of ADM's upsamplers: it takes 6 channels, a noisy image and a "
            "small one.",
            fix="Import a network that starts from noise alone; its first tensor, "
            "'input_blocks.0.0.weight', takes 3.",
        )
    if outputs not in (encoder.in_channels, 2 * encoder.in_channels):
        raise ModelError(
            problem=f"the tensor 'out.2.weight' makes {outputs} channels of "
            f"{encoder.in_channels}; it should be as many, or twice as many.",
            fix=ANOTHER_CHECKPOINT,
        )


def choose_conventions(encoder: Encoder, given: dict[str, Any]) -> Conventions:
    """Those of the published model of the same architecture, except for what is given."""
    given = {name: value for name, value in given.items() if value is not None}
    if {"num_heads", "num_head_channels"} <= given.keys():
        raise OptionError(
            problem="'num_heads' and 'num_head_channels' exclude each other.", fix="Give one."
        )
    published = PUBLISHED.get((encoder.multipliers, encoder.layers))
    if published is None and "image_size" not in given:
        raise ModelError(
            problem=f"no published network has channels {encoder.channels} and {encoder.layers} "
            "residual blocks per level, so its image size is not known.",
            fix="Give it with --image-size.",
        )
    if "num_heads" in given:
        given["num_head_channels"] = None
    elif "num_head_channels" in given:
        given["num_heads"] = None
    conventions = replace(published or Conventions(given["image_size"]), **given)
    check_conventions(encoder, conventions)
    return conventions


def check_conventions(encoder: Encoder, conventions: Conventions) -> None:
    """Raises an error unless they suit the architecture."""
    if conventions.image_size < 1 or conventions.image_size % encoder.stride:
        raise OptionError(
            problem=f"--image-size {conventions.image_size}: this network takes multiples of "
            f"{encoder.stride}.",
            fix="Give such a size.",
        )
    for channels, attends in zip(encoder.channels, encoder.attention, strict=True):
        # The middle attends at the last level's width in any case.
        attends |= channels == encoder.channels[-1]
        divisor = conventions.num_heads or conventions.num_head_channels or 1
        if attends and (divisor < 1 or channels % divisor):
            raise ModelError(
                problem=f"attention over {channels} channels cannot have "
                + (f"{divisor} heads." if conventions.num_heads else f"{divisor} per head."),
                fix="Call the converter in Python with the network's own 'num_head_channels'.",
            )


def unet_config(
    state: State, encoder: Encoder, conventions: Conventions
) -> tuple[type[torch.nn.Module], dict[str, Any]]:
    """The network's class and its arguments."""
    classes = dimensions(state, CLASS_EMBEDDING, 2)[0] if CLASS_EMBEDDING in state else None
    config = ADM | {
        "sample_size": conventions.image_size,
        "in_channels": encoder.in_channels,
        "out_channels": dimensions(state, "out.2.weight", 4)[0],
        "block_out_channels": encoder.channels,
        "layers_per_block": encoder.layers,
        "down_block_types": encoder.down_block_types,
        "up_block_types": tuple(
            "AttnUpBlock2D" if attends else "ResnetUpsampleBlock2D"
            for attends in reversed(encoder.attention)
        ),
        "num_class_embeds": classes,
        "attention_head_dim": conventions.num_head_channels,
    }
    if conventions.num_heads is None and encoder.features == encoder.channels[0]:
        return UNet2DModel, config
    return ADMUNet2DModel, config | {
        "time_embedding_dim": 4 * encoder.features,
        "num_attention_heads": conventions.num_heads,
        "timestep_features": encoder.features,
    }
