"""The tensors of an ADM checkpoint under the names that diffusers gives them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from sia_gen.diffusion.adm.encoder import ANOTHER_CHECKPOINT, Conventions, Encoder, State
from sia_gen.errors import ModelError

# An ADM module and the diffusers modules it becomes: one, or three for queries, keys and values.
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
# ADM keeps the linear maps of its attention as convolutions over a sequence.
CONVOLUTIONS = (".qkv.weight", ".proj_out.weight", ".qkv_proj.weight", ".c_proj.weight")


def encoder_names(encoder: Encoder) -> Names:
    """The modules of the encoder and the middle."""
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
            names |= layer_names(f"input_blocks.{first + layer}", target, layer)
        names |= resnet_names(f"input_blocks.{first + blocks - 1}.0", f"{target}.downsamplers.0")
    names |= layer_names("middle_block", "mid_block", 0)
    names |= resnet_names("middle_block.2", "mid_block.resnets.1")
    return names


def decoder_names(encoder: Encoder) -> Names:
    """The modules of the decoder, which mirrors the encoder, with one more block per level."""
    names: Names = {"out.0": ("conv_norm_out",), "out.2": ("conv_out",)}
    blocks = encoder.layers + 1
    for level, attends in enumerate(reversed(encoder.attention)):
        target, last = f"up_blocks.{level}", (level + 1) * blocks - 1
        for layer in range(blocks):
            names |= layer_names(f"output_blocks.{level * blocks + layer}", target, layer)
        # The upsampling is the last part of a level's last block.
        part = 2 if attends else 1
        names |= resnet_names(f"output_blocks.{last}.{part}", f"{target}.upsamplers.0")
    return names


def layer_names(block: str, level: str, layer: int) -> Names:
    """A residual block and the attention that may follow it."""
    attention, target = f"{block}.1", f"{level}.attentions.{layer}"
    return {
        **resnet_names(f"{block}.0", f"{level}.resnets.{layer}"),
        f"{attention}.norm": (f"{target}.group_norm",),
        f"{attention}.qkv": (f"{target}.to_q", f"{target}.to_k", f"{target}.to_v"),
        f"{attention}.proj_out": (f"{target}.to_out.0",),
    }


def resnet_names(block: str, target: str) -> Names:
    """A residual block."""
    return {f"{block}.{theirs}": (f"{target}.{ours}",) for theirs, ours in RESNET.items()}


def rename_tensors(
    state: State, names: Names, model: torch.nn.Module, conventions: Conventions
) -> dict[str, torch.Tensor]:
    """Gives tensors the names and shapes that `model` wants, in float32.

    Args:
        state: An ADM state_dict.
        names: Its modules; those that the model does not have are passed over.
        model: May be on the meta device.
        conventions: Say how queries, keys and values are arranged.

    Raises:
        ModelError: Naming the tensor that is missing, unexpected, or of the wrong shape.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    pairs = {
        f"{module}.{kind}": [f"{target}.{kind}" for target in targets]
        for module, targets in names.items()
        for kind in PARAMETERS
        if f"{targets[0]}.{kind}" in wanted
    }
    check_names(state, pairs)
    renamed = {}
    for name, targets in pairs.items():
        tensor = fitting(name, state[name], len(targets), wanted[targets[0]])
        # The attention pooling of classifiers, `qkv_proj`, is never interleaved.
        if ".qkv." in name and conventions.qkv_order == "interleaved":
            tensor = follow_one_another(tensor, conventions.heads(len(tensor) // 3))
        for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
            renamed[target] = part.to(torch.float32).contiguous()
    return renamed


def check_names(state: State, wanted: Iterable[str]) -> None:
    """Raises `ModelError` unless the tensors are exactly those wanted."""
    wanted = dict.fromkeys(wanted)
    for problem, names in (
        ("the tensor '{}' is missing", [name for name in wanted if name not in state]),
        ("there is no place for the tensor '{}'", [name for name in state if name not in wanted]),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ModelError(problem=f"{problem.format(names[0])}{more}.", fix=ANOTHER_CHECKPOINT)


def fitting(name: str, tensor: torch.Tensor, parts: int, part: torch.Size) -> torch.Tensor:
    """The tensor without the axis of a convolution, if it is `parts` tensors of shape `part`."""
    axis = (1,) if name.endswith(CONVOLUTIONS) else ()
    shape = (parts * part[0], *part[1:], *axis)
    if tensor.shape != shape or not tensor.is_floating_point():
        raise ModelError(
            problem=f"the tensor '{name}' is {tensor.dtype} {tuple(tensor.shape)}, "
            f"the network needs floats {shape}.",
            fix=ANOTHER_CHECKPOINT,
        )
    return tensor.squeeze(-1) if axis else tensor


def follow_one_another(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Orders (heads, 3, C / heads) rows as (3, heads, C / heads); (3C, ...) to (3C, ...)."""
    rows = qkv.reshape(heads, 3, len(qkv) // 3 // heads, *qkv.shape[1:])
    return rows.transpose(0, 1).reshape(qkv.shape)
