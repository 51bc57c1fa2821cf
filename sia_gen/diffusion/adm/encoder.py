"""The architecture of an ADM encoder, read off the tensors of a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from sia_gen.errors import ModelError

State = Mapping[str, torch.Tensor]

ANOTHER_CHECKPOINT = (
    "Give a UNet or classifier of OpenAI's guided-diffusion or of the RealNet authors."
)
# All of ADM's GroupNorms have so many groups.
GROUPS = 32


@dataclass(frozen=True)
class Encoder:
    """What the tensors of an ADM encoder tell about it.

    Attributes:
        in_channels: Of the images.
        features: Width of the timestep's sinusoidal embedding, the "channels" of ADM.
        channels: Per level.
        attention: Whether a level has it.
        layers: Residual blocks per level.
    """

    in_channels: int
    features: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    layers: int

    @property
    def multipliers(self) -> tuple[float, ...]:
        """Channels per level, in units of `features`."""
        return tuple(channels / self.features for channels in self.channels)

    @property
    def stride(self) -> int:
        """By which the image gets smaller."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def down_block_types(self) -> tuple[str, ...]:
        """The names that diffusers has for the levels."""
        return tuple(
            "AttnDownBlock2D" if attends else "ResnetDownsampleBlock2D"
            for attends in self.attention
        )


@dataclass(frozen=True)
class Conventions:
    """What an ADM network does that its tensors do not tell.

    Attributes:
        image_size: Side of the images it was trained on.
        num_head_channels: Channels of an attention head; None where the number of heads is fixed.
        num_heads: Heads of every attention block, if `num_head_channels` is None.
        qkv_order: Whether queries, keys and values come one after another or per head.
        beta_schedule: Its noise schedule, as diffusers calls it.
    """

    image_size: int
    num_head_channels: int | None = 64
    num_heads: int | None = None
    qkv_order: Literal["interleaved", "split"] = "interleaved"
    beta_schedule: str = "linear"

    def heads(self, channels: int) -> int:
        """How many heads an attention block has."""
        return self.num_heads or channels // (self.num_head_channels or channels)


def read_encoder(state: State, levels: int) -> Encoder:
    """Reads off the encoder of a network that has so many levels.

    Raises:
        ModelError: If the tensors are no such encoder.
    """
    first = dimensions(state, "input_blocks.0.0.weight", 4)
    blocks = count_blocks(state)
    per_level, rest = divmod(blocks, levels)
    if rest or per_level < 2:
        raise ModelError(
            problem=f"{blocks} 'input_blocks' do not make {levels} levels.", fix=ANOTHER_CHECKPOINT
        )
    starts = [1 + level * per_level for level in range(levels)]
    return Encoder(
        in_channels=first[1],
        features=dimensions(state, "time_embed.0.weight", 2)[1],
        channels=tuple(
            normalised_channels(state, f"input_blocks.{start}.0.in_layers.2.weight")
            for start in starts
        ),
        attention=tuple(
            any(name.startswith(f"input_blocks.{start}.1.") for name in state) for start in starts
        ),
        layers=per_level - 1,
    )


def count_blocks(state: State) -> int:
    """How many `input_blocks` there are, counted without gaps."""
    present = {name.split(".")[1] for name in state if name.startswith("input_blocks.")}
    return next(number for number in itertools.count() if str(number) not in present)


def normalised_channels(state: State, name: str) -> int:
    """The output channels of a convolution that a GroupNorm follows."""
    channels = dimensions(state, name, 4)[0]
    if channels % GROUPS or not channels:
        raise ModelError(
            problem=f"the tensor '{name}' makes {channels} channels, no multiple of {GROUPS}.",
            fix=ANOTHER_CHECKPOINT,
        )
    return channels


def dimensions(state: State, name: str, count: int) -> torch.Size:
    """The shape of a tensor.

    Raises:
        ModelError: If it is missing, empty or has another number of dimensions.
    """
    if name not in state:
        raise ModelError(problem=f"the tensor '{name}' is missing.", fix=ANOTHER_CHECKPOINT)
    shape = state[name].shape
    if len(shape) != count or 0 in shape:
        raise ModelError(
            problem=f"the tensor '{name}' is {tuple(shape)}, the network needs {count} dimensions.",
            fix=ANOTHER_CHECKPOINT,
        )
    return shape
