"""Compiles networks with torch.compile, for work that is large enough to pay for it.

Only what changes no result is tuned by trial: a network that is compiled anew, in another process
or on another day, gives the same bits on the same kind of device.
"""

from __future__ import annotations

import os
import shutil
import warnings
from functools import partial
from typing import Any

import torch
from torch import nn

# Triton builds its launchers with a compiler of C, torch its kernels for the CPU with one of C++.
COMPILERS = {"cuda": ("gcc", "clang"), "cpu": ("g++", "clang++")}


def compile_network(network: nn.Module, *, graphs: bool = False) -> None:
    """Compiles a network where it stands, in channels-last memory; it happens at the first call.

    It then takes batches of one size: each other size is compiled anew.

    Args:
        network: On its device.
        graphs: Whether to replay it as a CUDA graph, which spares the host the launching of its
            kernels; what it returns is overwritten by the next call then.
    """
    # What is kept of networks before, of which no more than a few are.
    torch.compiler.reset()
    # What compilers have to say of libraries is not for the users of these.
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    network.to(memory_format=torch.channels_last)
    on_gpu = next(network.parameters()).device.type == "cuda"
    options: dict[str, Any] = {"deterministic": True, "triton.cudagraphs": graphs and on_gpu}
    network.compile(options=options, dynamic=False)


def is_compiled(network: nn.Module) -> bool:
    """Whether a network was given to `compile_network`."""
    return getattr(network, "_compiled_call_impl", None) is not None


def has_compiler(device: torch.device) -> bool:
    """Whether there is what it takes to compile for a device."""
    names = [*COMPILERS.get(device.type, ()), os.environ.get("CC", "")]
    return any(shutil.which(name) for name in names if name)


class ChannelwiseGroupNorm(nn.GroupNorm):
    """A `GroupNorm` by way of its channels, which compiles to few passes over memory.

    In channels-last memory the values of a group are not neighbours. Sums of channels are, and all
    else is one product and one sum, which a compiler joins with what comes before and after.
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


def compile_norms(network: nn.Module) -> None:
    """Puts a `ChannelwiseGroupNorm` in the place of every `GroupNorm`, with its weights."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm:
                setattr(module, name, channelwise(child))


def channelwise(norm: nn.GroupNorm) -> ChannelwiseGroupNorm:
    """The same norm, with the same parameters."""
    with torch.device("meta"):
        other = ChannelwiseGroupNorm(norm.num_groups, norm.num_channels, norm.eps)
    other.weight, other.bias = norm.weight, norm.bias
    return other.train(norm.training)
