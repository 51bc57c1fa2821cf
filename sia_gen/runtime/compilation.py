"""How networks are executed: in which memory layout, and compiled or not.

Compiling with torch.compile is for work that is large enough to pay for it.

Only what changes no result is tuned by trial: a network that is compiled anew, in another process
or on another day, gives the same bits on the same kind of device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sia_gen.errors import first_line
from sia_gen.networks.norms import ChannelwiseGroupNorm, replace_norms

# Floating-point operations from which on compiling pays: minutes of a GPU's work.
LARGE = 3e16
NOTICE = "compiling the network, which takes a minute or more"


@dataclass(frozen=True)
class Execution:
    """How networks are executed, which changes the last bits of what they make.

    Attributes:
        compiled: Whether they are compiled.
        channels_last: Whether the channels of a pixel are neighbours in memory, else its row is.
    """

    compiled: bool
    channels_last: bool

    def apply(self, network: nn.Module) -> None:
        """Prepares a network, on its device, where it stands."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiled:
            compile_network(network, channels_last=self.channels_last)


def compile_network(
    network: nn.Module, *, channels_last: bool = True, graphs: bool = False
) -> None:
    """Compiles a network where it stands; it happens at the first call.

    It then takes batches of one size: each other size is compiled anew.

    Args:
        network: On its device, in the layout that it is to compute in.
        channels_last: Whether that is channels last; otherwise the compiler may not choose it.
        graphs: Whether to replay it as a CUDA graph, which spares the host the launching of its
            kernels; what it returns is overwritten by the next call then.
    """
    # torch keeps few programs of one function, and gives up silently on further ones.
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
    """Whether a network was given to `compile_network`."""
    return getattr(network, "_compiled_call_impl", None) is not None


def compiler_problem(device: torch.device) -> str | None:
    """What is in the way of compiling for a device, found by trying; None if nothing is."""
    try:
        torch.compile(torch.square, dynamic=False)(torch.ones(2, device=device))
    # A compiler, its headers, Triton, a cache that can be written: each lacks in its own way.
    except Exception as error:
        return first_line(getattr(error, "inner_exception", error))
    return None
