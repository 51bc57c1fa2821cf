"""The UNet of the ADM checkpoints that diffusers' own class cannot express."""

from __future__ import annotations

from typing import Any

from diffusers import ModelMixin, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps

# Pipelines look the base class up in the module of the model they load.
__all__ = ["ADMUNet2DModel", "ModelMixin"]


class ADMUNet2DModel(UNet2DModel):
    """A `UNet2DModel` with two more arguments, used where it cannot do without them.

    OpenAI's model for 128 pixels has 4 attention heads in every block, however wide; the one for
    512 pixels computes the timestep's embedding at another width than that of its first level.

    Args:
        num_attention_heads: Heads of every attention block, in place of `attention_head_dim`
            channels per head.
        timestep_features: Width of the sinusoidal embedding; that of the first level when left out.
        unet: The arguments of `UNet2DModel`.
    """

    def __init__(
        self,
        num_attention_heads: int | None = None,
        timestep_features: int | None = None,
        **unet: Any,
    ) -> None:
        super().__init__(**unet)
        self.register_to_config(
            num_attention_heads=num_attention_heads, timestep_features=timestep_features
        )
        if num_attention_heads is not None:
            for module in self.modules():
                if isinstance(module, Attention):
                    set_heads(module, num_attention_heads)
        if timestep_features is not None:
            config = self.config
            width = config.time_embedding_dim or 4 * config.block_out_channels[0]
            self.time_proj = Timesteps(timestep_features, config.flip_sin_to_cos, config.freq_shift)
            self.time_embedding = TimestepEmbedding(timestep_features, width)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        # What `from_config` passes on; it does not see through `**unet` by itself.
        both = (input_class, UNet2DModel)
        return {key for each in both for key in UNet2DModel._get_init_keys(each)}


def set_heads(attention: Attention, heads: int) -> None:
    """Cuts the channels of an attention block into another number of heads; no weight changes."""
    attention.heads = attention.sliceable_head_dim = heads
    attention.scale = (attention.inner_dim // heads) ** -0.5
