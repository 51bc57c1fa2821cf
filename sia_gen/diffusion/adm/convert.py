"""Converts the UNets and classifiers of ADM checkpoints to diffusers networks."""

import math
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DModel

from sia_gen.diffusion.adm.architecture import (
    GROUPS,
    Conventions,
    Encoder,
    State,
    check_conventions,
    choose_conventions,
    dimensions,
    not_adm,
    read_encoder,
)
from sia_gen.errors import ModelError, OptionError
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.networks.unet import ADM, ADMUNet2DModel

# An ADM module and its diffusers modules: one, or three for queries, keys and values.
Names = dict[str, tuple[str, ...]]

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
PARAMETERS = ("weight", "bias", "positional_embedding")
# ADM stores the linear maps of its attention as convolutions over a sequence.
CONVOLUTIONS = (".qkv.weight", ".proj_out.weight", ".qkv_proj.weight", ".c_proj.weight")
CLASS_EMBEDDING = "label_emb.weight"
POSITIONS = "out.2.positional_embedding"
CLASSIFIER_HEAD: Names = {
    "out.0": ("conv_norm_out",),
    "out.2": ("pool",),
    "out.2.qkv_proj": ("pool.to_q", "pool.to_k", "pool.to_v"),
    "out.2.c_proj": ("classifier",),
}


class ConvertedModel(NamedTuple):
    """A network of diffusers in evaluation mode, and the conventions assumed about it."""

    model: Any
    conventions: Conventions


def convert_adm_state_dict(
    state_dict: State, *, new_classes: int | None = None, **conventions: Any
) -> ConvertedModel:
    """Converts the UNet of an ADM checkpoint to a `UNet2DModel` or `ADMUNet2DModel`.

    Args:
        state_dict: Tensors under their original names; unchanged ones are shared, not copied.
        new_classes: Number of classes of a fresh class embedding, in place of the present one.
        conventions: Fields of `Conventions` that differ from the published network of the same
            architecture.

    Raises:
        ModelError: If a tensor is missing, unexpected or of the wrong shape, or the image size is
            not known.
        OptionError: If the image size does not suit the network.
    """
    state = dict(state_dict) if new_classes is None else _with_classes(state_dict, new_classes)
    encoder = read_encoder(state)
    out_channels = _check_channels(state, encoder)
    chosen = choose_conventions(encoder, conventions)
    classes = dimensions(state, CLASS_EMBEDDING, 2)[0] if CLASS_EMBEDDING in state else None
    config = ADM | _shared_config(encoder, chosen)
    config |= {"out_channels": out_channels, "num_class_embeds": classes}
    config["up_block_types"] = tuple(
        "AttnUpBlock2D" if attends else "ResnetUpsampleBlock2D"
        for attends in reversed(encoder.attention)
    )
    names = _encoder_names(encoder) | _decoder_names(encoder)
    if chosen.num_heads is None and encoder.features == encoder.channels[0]:
        return _convert(state, names, UNet2DModel, config, chosen)
    config |= {
        "time_embedding_dim": 4 * encoder.features,
        "num_attention_heads": chosen.num_heads,
        "timestep_features": encoder.features,
    }
    return _convert(state, names, ADMUNet2DModel, config, chosen)


def convert_adm_classifier_state_dict(
    state_dict: State, *, image_size: int | None = None, num_head_channels: int = 64
) -> ConvertedModel:
    """Converts the classifier of an ADM checkpoint to a `NoisyClassifier`.

    All published ones have 64 channels per attention head. See `convert_adm_state_dict` for errors.
    """
    encoder = read_encoder(state_dict)
    # One position is that of the mean.
    side = math.isqrt(max(dimensions(state_dict, POSITIONS, 2)[1] - 1, 1))
    conventions = Conventions(side * encoder.stride, num_head_channels)
    if image_size not in (None, conventions.image_size):
        raise OptionError(
            problem=f"--image-size {image_size}: this classifier is for {conventions.image_size} "
            "pixels.",
            fix="Leave it out.",
        )
    check_conventions(encoder, conventions)
    config = _shared_config(encoder, conventions) | {
        "num_classes": dimensions(state_dict, "out.2.c_proj.weight", 3)[0],
        "norm_num_groups": GROUPS,
        "timestep_features": encoder.features,
    }
    names = _encoder_names(encoder) | CLASSIFIER_HEAD
    return _convert(state_dict, names, NoisyClassifier, config, conventions)


def _shared_config(encoder: Encoder, conventions: Conventions) -> dict[str, Any]:
    return {
        "sample_size": conventions.image_size,
        "in_channels": encoder.in_channels,
        "block_out_channels": encoder.channels,
        "layers_per_block": encoder.layers,
        "down_block_types": tuple(
            "AttnDownBlock2D" if attends else "ResnetDownsampleBlock2D"
            for attends in encoder.attention
        ),
        "attention_head_dim": conventions.num_head_channels,
    }


def _convert(
    state: State, names: Names, kind: Any, config: dict[str, Any], conventions: Conventions
) -> ConvertedModel:
    with torch.device("meta"):
        model = kind(**config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    pairs = {
        f"{module}.{parameter}": [f"{target}.{parameter}" for target in targets]
        for module, targets in names.items()
        for parameter in PARAMETERS
        # The network may lack classes, attention, or the shortcut of a residual block.
        if f"{targets[0]}.{parameter}" in shapes
    }
    for problem, wrong in (
        ("the tensor '{}' is missing", [name for name in pairs if name not in state]),
        ("there is no place for the tensor '{}'", [name for name in state if name not in pairs]),
    ):
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise not_adm(problem=f"{problem.format(wrong[0])}{more}.")
    renamed = {}
    for name, targets in pairs.items():
        tensor, (first, *rest) = state[name], shapes[targets[0]]
        convolution = name.endswith(CONVOLUTIONS)
        shape = (len(targets) * first, *rest, *((1,) if convolution else ()))
        if tensor.shape != shape or not tensor.is_floating_point():
            raise not_adm(
                problem=f"the tensor '{name}' is {tensor.dtype} {tuple(tensor.shape)}, "
                f"the network needs floats {shape}."
            )
        if convolution:
            tensor = tensor.squeeze(-1)
        # The attention pooling of classifiers, `qkv_proj`, is never interleaved.
        if ".qkv." in name and conventions.qkv_order == "interleaved":
            channels = len(tensor) // 3
            heads = conventions.num_heads or channels // (conventions.num_head_channels or channels)
            by_head = tensor.reshape(heads, 3, channels // heads, *tensor.shape[1:])
            tensor = by_head.transpose(0, 1).reshape(tensor.shape)
        for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
            renamed[target] = part.to(torch.float32).contiguous()
    model.load_state_dict(renamed, assign=True)
    return ConvertedModel(model.eval(), conventions)


def _with_classes(state: State, classes: int) -> dict[str, torch.Tensor]:
    if classes < 1:
        raise OptionError(
            problem=f"--new-classes {classes}: a network has at least one class.",
            fix="Leave it out to keep the present classes.",
        )
    width = dimensions(state, "time_embed.0.weight", 2)[0]
    if CLASS_EMBEDDING in state:
        # ADM initialises it like this; the seed makes imports reproducible.
        generator = torch.Generator().manual_seed(0)
        return {**state, CLASS_EMBEDDING: torch.randn(classes, width, generator=generator)}
    # A network without classes computes the same until it learns to distinguish them.
    return {**state, CLASS_EMBEDDING: torch.zeros(classes, width)}


def _check_channels(state: State, encoder: Encoder) -> int:
    """Returns the output channels of a network that makes images from noise alone."""
    outputs = dimensions(state, "out.2.weight", 4)[0]
    if encoder.in_channels == 6:
        raise ModelError(
            problem="this is one of ADM's upsamplers, which take 6 channels: a noisy image and a "
            "small one.",
            fix="Give a network that starts from noise alone: its 'input_blocks.0.0.weight' takes "
            "3 channels.",
        )
    if outputs not in (encoder.in_channels, 2 * encoder.in_channels):
        raise not_adm(
            problem=f"the tensor 'out.2.weight' makes {outputs} channels of "
            f"{encoder.in_channels}; it should be as many, or twice as many."
        )
    return outputs


def _encoder_names(encoder: Encoder) -> Names:
    names: Names = {
        "time_embed.0": ("time_embedding.linear_1",),
        "time_embed.2": ("time_embedding.linear_2",),
        "label_emb": ("class_embedding",),
        "input_blocks.0.0": ("conv_in",),
    }
    blocks = encoder.layers + 1
    for level in range(len(encoder.channels)):
        first, target = 1 + level * blocks, f"down_blocks.{level}"
        for layer in range(encoder.layers):
            names |= _layer_names(f"input_blocks.{first + layer}", target, layer)
        names |= _resnet_names(f"input_blocks.{first + blocks - 1}.0", f"{target}.downsamplers.0")
    names |= _layer_names("middle_block", "mid_block", 0)
    names |= _resnet_names("middle_block.2", "mid_block.resnets.1")
    return names


def _decoder_names(encoder: Encoder) -> Names:
    # It mirrors the encoder, with one more block per level.
    names: Names = {"out.0": ("conv_norm_out",), "out.2": ("conv_out",)}
    blocks = encoder.layers + 1
    for level, attends in enumerate(reversed(encoder.attention)):
        target, last = f"up_blocks.{level}", (level + 1) * blocks - 1
        for layer in range(blocks):
            names |= _layer_names(f"output_blocks.{level * blocks + layer}", target, layer)
        # The upsampling is the last part of a level's last block.
        part = 2 if attends else 1
        names |= _resnet_names(f"output_blocks.{last}.{part}", f"{target}.upsamplers.0")
    return names


def _layer_names(block: str, level: str, layer: int) -> Names:
    attention, target = f"{block}.1", f"{level}.attentions.{layer}"
    return {
        **_resnet_names(f"{block}.0", f"{level}.resnets.{layer}"),
        f"{attention}.norm": (f"{target}.group_norm",),
        f"{attention}.qkv": (f"{target}.to_q", f"{target}.to_k", f"{target}.to_v"),
        f"{attention}.proj_out": (f"{target}.to_out.0",),
    }


def _resnet_names(block: str, target: str) -> Names:
    return {f"{block}.{theirs}": (f"{target}.{ours}",) for theirs, ours in RESNET.items()}
