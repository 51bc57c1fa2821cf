"""What a RealNet is made of: the layers of each block, and the sizes of its networks."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from sia_gen.errors import did_you_mean
from sia_gen.realnet.channels import DECODER_RESIDUAL_LAYERS
from sia_gen.realnet.reconstruction import ATTENTION_LEVELS, LAYERS_PER_BLOCK, MULTIPLIERS

Architecture = Literal["independent", "neighbour-aligned", "retrieval"]
RETRIEVAL = "retrieval"

# Bounds keep a damaged file from asking for a network that takes hours to make.
Layers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Number = Annotated[int, Field(ge=0, le=64)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Structure:
    """The blocks of a RealNet, and its networks; the defaults are those of the authors' code.

    Recipes choose it by the name of an architecture; imported models have others.
    """

    blocks: Annotated[list[Layers], Field(min_length=1)]
    """Layers of each block, which are reconstructed together, as places in `strides`."""
    block_strides: list[Annotated[int, Field(ge=1)]]
    """Stride in which the features of each block are reconstructed."""
    width: Annotated[float, Field(gt=0, le=64)] = 0.5
    """Channels of a network at its highest resolution, as a share of those of its block."""
    multipliers: Annotated[list[float], Field(min_length=1, max_length=16)] = Field(
        default=[*MULTIPLIERS]
    )
    """Channels at each resolution, as multiples of the width."""
    attention_levels: list[int] = Field(default=[*ATTENTION_LEVELS])
    """Resolutions with self-attention."""
    layers_per_block: Number = LAYERS_PER_BLOCK
    """Residual blocks per resolution of the encoder."""
    norm_groups: Annotated[int, Field(ge=1)] | None = None
    """Groups of every group norm; None: as many as leave four channels in each, up to 32."""
    decoder_layers: Number = DECODER_RESIDUAL_LAYERS
    """Residual layers of the decoder."""

    @classmethod
    def of(cls, architecture: Architecture | Self | dict[str, Any], strides: Sequence[int]) -> Self:
        """Returns the structure that an architecture is, or that its name says for some strides."""
        if isinstance(architecture, cls):
            return architecture
        if isinstance(architecture, dict):
            return cls(**architecture)
        known = get_args(Architecture)
        if architecture not in known:
            hint = did_you_mean(str(architecture), known) or f", use one of {', '.join(known)}"
            msg = f"unknown architecture '{architecture}'{hint}"
            raise ValueError(msg)
        layers = range(len(strides))
        numbers = {"independent": 1, "neighbour-aligned": 2, RETRIEVAL: len(layers)}
        together = numbers[str(architecture)]
        blocks = [list(layers[first : first + together]) for first in layers[::together]]
        return cls(blocks, [strides[block[0]] for block in blocks])
