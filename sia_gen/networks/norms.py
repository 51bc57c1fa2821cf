"""Replacements for PyTorch's GroupNorm, with the same weights."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn


class ChannelwiseGroupNorm(nn.GroupNorm):
    """A `GroupNorm` computed channel by channel, which compiles to few passes over memory.

    In channels-last memory format the values of a group are not adjacent, but sums over space are
    cheap; the rest is one product and one sum, which a compiler fuses with its neighbours.

    The variance is a difference of means, so its relative error is that of float32 times one plus
    the square of mean over deviation. It is below that of bfloat16 while the mean of a group is
    within a hundred deviations.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (B, C, ...) over groups of channels; the data type stays the same."""
        batch, channels, *size = input.shape
        space = tuple(range(2, input.ndim))
        groups = (batch, self.num_groups, -1)
        values = input.float()
        mean = values.mean(space).view(groups).mean(-1)
        square = values.square().mean(space).view(groups).mean(-1)
        scale = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        spread = partial(torch.repeat_interleave, repeats=channels // self.num_groups, dim=1)
        factor = spread(scale) * self.weight.float()
        offset = self.bias.float() - spread(mean) * factor
        shape = (batch, channels, *[1] * len(size))
        return (values * factor.view(shape) + offset.view(shape)).to(input.dtype)


class LeanGroupNorm(nn.GroupNorm):
    """A `GroupNorm` that computes in float32 but returns, and stores, the precision of its input.

    On CUDA, autocast runs norms in float32 and everything up to the next convolution with them, so
    that training needs nearly as much memory as without autocast. ADM's norms compute in float32
    too and return to half precision at once; these also store their half-precision input for the
    backward pass.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (B, C, ...) over groups of channels; the data type stays the same."""
        arguments = (input, self.weight, self.bias, self.num_groups, self.eps)
        normalised: torch.Tensor = _Float32GroupNorm.apply(*arguments)
        return normalised


class _Float32GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        groups: int,
        eps: float,
    ) -> torch.Tensor:
        exact = values.float().contiguous()
        batch, channels, *space = exact.shape
        ctx.sizes = (batch, channels, math.prod(space), groups)
        normalised, mean, inverse = torch.ops.aten.native_group_norm(
            exact, weight, bias, *ctx.sizes, eps
        )
        ctx.save_for_backward(values, mean, inverse, weight)
        half: torch.Tensor = normalised.to(values.dtype)
        return half

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        values, mean, inverse, weight = ctx.saved_tensors
        of_values, of_weight, of_bias = torch.ops.aten.native_group_norm_backward(
            gradients[0].float().contiguous(),
            values.float().contiguous(),
            mean,
            inverse,
            weight,
            *ctx.sizes,
            list(ctx.needs_input_grad[:3]),
        )
        if of_values is not None:
            of_values = of_values.to(values.dtype)
        return of_values, of_weight, of_bias, None, None


def replace_norms(network: nn.Module, kind: type[nn.GroupNorm]) -> None:
    """Turns every `GroupNorm` of PyTorch in a network into one of another kind."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            # The kinds differ only in what they compute, so the weights stay.
            module.__class__ = kind
