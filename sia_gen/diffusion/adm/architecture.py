"""The architecture of an ADM network, read off the tensors of a checkpoint.

ADM is "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233). Tensors do not tell
everything about a network; for the published ones the rest follows from the architecture.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from sia_gen.errors import ModelError, OptionError

State = Mapping[str, torch.Tensor]
# Groups of every GroupNorm in ADM.
GROUPS = 32


@dataclass(frozen=True)
class Encoder:
    """The encoder of an ADM network, as far as its tensors tell."""

    in_channels: int
    features: int  # width of the timestep's sinusoidal embedding, the "channels" of ADM
    channels: tuple[int, ...]  # per level
    attention: tuple[bool, ...]  # per level
    layers: int  # residual blocks per level

    @property
    def stride(self) -> int:
        """Factor by which the image gets smaller."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class Conventions:
    """Properties of an ADM network that its tensors do not tell.

    The tensors of attention have all queries, then all keys and values ("split", ADM's "new
    attention order"), or those of one head after another ("interleaved").
    """

    image_size: int
    num_head_channels: int | None = 64
    num_heads: int | None = None  # in every block, if `num_head_channels` is None
    qkv_order: Literal["interleaved", "split"] = "interleaved"
    beta_schedule: str = "linear"  # as diffusers calls it


# The published UNets, by channels per level in units of `features`, and blocks per level.
PUBLISHED = {
    ((1, 2, 3, 4), 3): Conventions(64, qkv_order="split", beta_schedule="squaredcos_cap_v2"),
    ((1, 1, 2, 3, 4), 2): Conventions(128, num_head_channels=None, num_heads=4),
    ((1, 1, 2, 2, 4, 4), 2): Conventions(256),
    ((0.5, 1, 1, 2, 2, 4, 4), 2): Conventions(512),
}


# Makes the error of a checkpoint of another kind.
not_adm = partial(
    ModelError,
    fix="Give a UNet or classifier of OpenAI's guided-diffusion or of the RealNet authors.",
)


def dimensions(state: State, name: str, count: int, multiple: int = 1) -> torch.Size:
    """Returns the shape of a tensor; `ModelError` unless it has the dimensions that are needed."""
    if name not in state:
        raise not_adm(problem=f"the tensor '{name}' is missing.")
    shape = state[name].shape
    if len(shape) != count or 0 in shape or shape[0] % multiple:
        first = f", the first a multiple of {multiple}" if multiple > 1 else ""
        raise not_adm(
            problem=f"the tensor '{name}' is {tuple(shape)}, "
            f"the network needs {count} dimensions{first}."
        )
    return shape


def read_encoder(state: State) -> Encoder:
    """Returns the encoder of a UNet or classifier; `ModelError` if the tensors have none."""
    in_channels = dimensions(state, "input_blocks.0.0.weight", 4)[1]
    present = {name.split(".")[1] for name in state if name.startswith("input_blocks.")}
    blocks = next(number for number in itertools.count() if str(number) not in present)
    attends = [
        any(name.startswith(f"input_blocks.{block}.1.") for name in state)
        for block in range(blocks)
    ]
    if is_unet(state):
        # All levels but the highest end in an upsampling block.
        found = (re.match(r"(output_blocks\.\d+\.[12])\.in_l", name) for name in state)
        levels = len({match[1] for match in found if match}) + 1
    else:
        levels = _classifier_levels(attends)
    per_level, rest = divmod(blocks, levels)
    if rest or per_level < 2:
        raise not_adm(problem=f"{blocks} 'input_blocks' do not make {levels} levels.")
    starts = range(1, blocks, per_level)
    names = [f"input_blocks.{start}.0.in_layers.2.weight" for start in starts]
    return Encoder(
        in_channels,
        features=dimensions(state, "time_embed.0.weight", 2)[1],
        channels=tuple(dimensions(state, name, 4, GROUPS)[0] for name in names),
        attention=tuple(attends[start] for start in starts),
        layers=per_level - 1,
    )


def is_unet(state: State) -> bool:
    """Returns whether there is a decoder."""
    return any(name.startswith("output_blocks.") for name in state)


def _classifier_levels(attends: list[bool]) -> int:
    # All blocks of the last level attend, and the downsampling block before them does not.
    blocks = len(attends)
    layers = len(list(itertools.takewhile(bool, reversed(attends))))
    if not layers or blocks % (layers + 1):
        raise not_adm(
            problem=f"{blocks} 'input_blocks' of which the last {layers} attend are no ADM "
            "classifier."
        )
    return blocks // (layers + 1)


def choose_conventions(encoder: Encoder, given: dict[str, Any]) -> Conventions:
    """Returns the conventions of the published UNet of an architecture, except for given ones."""
    given = {name: value for name, value in given.items() if value is not None}
    if {"num_heads", "num_head_channels"} <= given.keys():
        raise OptionError(
            problem="'num_heads' and 'num_head_channels' exclude each other.", fix="Give one."
        )
    multipliers = tuple(channels / encoder.features for channels in encoder.channels)
    published = PUBLISHED.get((multipliers, encoder.layers))
    if published is None and "image_size" not in given:
        raise ModelError(
            problem=f"no published network has channels {encoder.channels} and {encoder.layers} "
            "residual blocks per level, so its image size is not known.",
            fix="Give it with --image-size.",
        )
    if "num_heads" in given or "num_head_channels" in given:
        given = {"num_heads": None, "num_head_channels": None} | given
    conventions = replace(published or Conventions(given["image_size"]), **given)
    check_conventions(encoder, conventions)
    return conventions


def check_conventions(encoder: Encoder, conventions: Conventions) -> None:
    """Raises an error unless size and heads suit the architecture."""
    if conventions.image_size < 1 or conventions.image_size % encoder.stride:
        raise OptionError(
            problem=f"--image-size {conventions.image_size}: this network takes multiples of "
            f"{encoder.stride}.",
            fix="Give such a size.",
        )
    divisor = conventions.num_heads or conventions.num_head_channels or 1
    for channels, attends in zip(encoder.channels, encoder.attention, strict=True):
        # The middle attends, too, at the width of the last level.
        attends |= channels == encoder.channels[-1]
        if attends and (divisor < 1 or channels % divisor):
            unit = "heads" if conventions.num_heads else "per head"
            raise ModelError(
                problem=f"attention over {channels} channels cannot have {divisor} {unit}.",
                fix="Call the converter in Python with the network's own 'num_head_channels'.",
            )
