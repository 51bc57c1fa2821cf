"""How networks are executed: in which memory format, and compiled or not.

The compiler tunes only what changes no result, so a network compiled again, in another process or
on another day, gives the same bits on the same kind of device.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sia_gen.errors import first_line
from sia_gen.networks.norms import ChannelwiseGroupNorm, replace_norms

# Number of floating-point operations, minutes of a GPU's work, from which compiling pays.
LARGE = 3e16
NOTICE = "compiling the network, which takes a minute or more"


@dataclass(frozen=True)
class Execution:
    """How networks are executed, which changes the last bits of their results.

    Attributes:
        compiled: Whether networks are compiled.
        channels_last: Whether networks use the channels-last memory format.
    """

    compiled: bool
    channels_last: bool

    def apply(self, network: nn.Module) -> None:
        """Prepares a network in place; it must be on its device."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiled:
            compile_network(network, channels_last=self.channels_last)


def compile_network(
    network: nn.Module, *, channels_last: bool = True, graphs: bool = False
) -> None:
    """Compiles a network in place at its first call, and again for every other batch size.

    Args:
        network: The network, on its device and in the memory format to compute in.
        channels_last: Whether that is channels-last; otherwise the compiler may not choose it.
        graphs: Whether to replay a CUDA graph, which launches kernels faster; every call then
            overwrites the result of the call before.
    """
    # torch keeps few programs per function, and stops compiling without a word beyond them.
    torch.compiler.reset()
    replace_norms(network, ChannelwiseGroupNorm)
    on_gpu = next(network.parameters()).device.type == "cuda"
    options: dict[str, Any] = {
        "deterministic": True,
        "triton.cudagraphs": graphs and on_gpu,
        "layout_optimization": channels_last,
    }
    network.compile(options=options, dynamic=False)


def is_compiled(network: nn.Module) -> bool:
    """Returns whether a network was given to `compile_network`."""
    return getattr(network, "_compiled_call_impl", None) is not None


def compiler_problem(device: torch.device) -> str | None:
    """Tries to compile for a device, and returns why it fails; None if it works."""
    try:
        torch.compile(torch.square, dynamic=False)(torch.ones(2, device=device))
    # A missing compiler, header, Triton or writable cache each raises something else.
    except Exception as error:
        return first_line(getattr(error, "inner_exception", error))
    return None
