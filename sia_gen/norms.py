"""GroupNorm in other ways than PyTorch's, with the same weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional


class ChannelwiseGroupNorm(nn.GroupNorm):
    """A `GroupNorm` by way of its channels, which compiles to few passes over memory.

    In channels-last memory the values of a group are not neighbours. Sums of channels are, and all
    else is one product and one sum, which a compiler joins with what comes before and after.

    The variance is a difference of means, so its relative error is that of float32 times one plus
    the square of mean over deviation: less than bfloat16's own while the mean of a group is within
    a hundred deviations.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...), normalised over groups of channels, in the type it came in."""
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


class HalfGroupNorm(nn.GroupNorm):
    """A `GroupNorm` that computes in the precision of what it is given, whatever autocast says.

    On CUDA, unlike on a CPU, autocast has norms compute in float32, and with them all up to the
    next convolution, so that training keeps nearly as much memory as without autocast. Sums are
    taken in float32 either way.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...), normalised over groups of channels, in the type it came in."""
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            return functional.group_norm(input, self.num_groups, weight, bias, self.eps)


def replace_norms(network: nn.Module, kind: type[nn.GroupNorm]) -> None:
    """Puts a norm of this kind, with its weights, in the place of every `GroupNorm` of torch."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm:
                setattr(module, name, converted(child, kind))


def converted(norm: nn.GroupNorm, kind: type[nn.GroupNorm]) -> nn.GroupNorm:
    """The same norm, with the same parameters, computed in another way."""
    with torch.device("meta"):
        other = kind(norm.num_groups, norm.num_channels, norm.eps)
    other.weight, other.bias = norm.weight, norm.bias
    return other.train(norm.training)
