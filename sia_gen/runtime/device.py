"""How networks are executed: on which device, how precisely, and compiled or not."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from sia_gen.errors import OptionError, first_line
from sia_gen.networks.norms import ChannelwiseGroupNorm, replace_norms
from sia_gen.runtime.processes import join
from sia_gen.version import __version__

Precision = Literal["fp32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

# One process may have many hours more work than another before they meet; `processes` makes sure
# that none waits for a process that has stopped.
_MEETING_TIMEOUT = timedelta(days=30)
# Number of floating-point operations, minutes of a GPU's work, from which compiling pays.
LARGE = 3e16
NOTICE = "compiling the network, which takes a minute or more"
_LIBRARIES = ("torch", "diffusers", "accelerate", "timm")


@dataclass(frozen=True)
class Execution:
    """How networks are executed, which changes the last bits of their results."""

    compiled: bool
    channels_last: bool  # memory format

    def apply(self, network: nn.Module) -> None:
        """Prepares a network in place; it must be on its device."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiled:
            compile_network(network, channels_last=self.channels_last)


@dataclass(frozen=True)
class Runtime:
    """What to run on."""

    # Type that networks compute in; weights and samples stay float32. None means bfloat16 if the
    # hardware has instructions for it, else float32.
    precision: Precision | None = None
    device: DeviceName = "auto"
    # None compiles large work on a GPU.
    compiled: bool | None = None
    # None takes the memory format that is faster.
    channels_last: bool | None = None

    def accelerator(self) -> Accelerator:
        """Starts Accelerate, which joins the other processes under `accelerate launch`."""
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(self.device, True):
            name = self.device.upper()
            raise OptionError(
                problem=f"--device {self.device}: this machine has no {name} device.",
                fix="Leave --device out.",
            )
        join()
        on_cpu = self.device == "cpu" or not any(available.values())
        if self.precision == "fp16" and on_cpu:
            raise OptionError(problem="--precision fp16 needs a GPU.", fix="Use bf16 or fp32.")
        precision = self.precision or ("bf16" if _computes_bfloat16(on_cpu) else "fp32")
        return Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            cpu=self.device == "cpu",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_MEETING_TIMEOUT)],
        )

    def compiles(self, device: torch.device, operations: Callable[[], float]) -> bool:
        """Returns whether to compile a network on a device for some floating-point operations."""
        if self.compiled is False:
            return False
        if self.compiled is None and (device.type != "cuda" or operations() < LARGE):
            return False
        problem = compiler_problem(device)
        if problem is None:
            return True
        if self.compiled:
            raise OptionError(
                problem=f"--compile: networks cannot be compiled here ({problem}).",
                fix="Install a C++ compiler and the headers of Python, on Debian 'g++' and "
                "'python3-dev', or use --no-compile.",
            )
        text = f"warning: networks are not compiled, which would be faster: {problem}"
        print(text, file=sys.stderr)
        return False

    @property
    def detector_channels_last(self) -> bool:
        """Whether a RealNet uses channels-last, the fastest format for its convolutions."""
        return self.channels_last is not False

    def execution(self, device: torch.device, *, compiled: bool) -> Execution:
        """Returns how the networks of a diffusion model are executed.

        Convolutions are fastest in channels-last, but on CUDA every `GroupNorm` of torch converts
        back unless it is compiled.
        """
        if self.channels_last is None:
            return Execution(compiled, channels_last=compiled or device.type != "cuda")
        return Execution(compiled, self.channels_last)


def compile_network(
    network: nn.Module, *, channels_last: bool = True, graphs: bool = False
) -> None:
    """Compiles a network in place at its first call, and again for every other batch size.

    Unless it is in channels-last format, the compiler may not choose that. `graphs` replays a CUDA
    graph, which launches kernels faster; every call then overwrites the result of the one before.
    The compiler tunes only what changes no result, so a network compiled again, in another process
    or on another day, gives the same bits on the same kind of device.
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


def _computes_bfloat16(on_cpu: bool) -> bool:
    """Whether the hardware has bfloat16 instructions; emulation would be slow."""
    if on_cpu:
        # torch has no public name for this; without it the safe answer is no.
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def loader_workers(accelerator: Accelerator) -> int:
    """Returns the number of processes that prepare batches: none if the CPU does the training."""
    if accelerator.device.type == "cpu":
        return 0
    return min(8, (os.cpu_count() or 1) // int(accelerator.num_processes))


def environment() -> dict[str, str]:
    """Returns the versions of the software that a result depends on."""
    ours = {"sia-gen": __version__, "python": platform.python_version()}
    return ours | {name: version(name) for name in _LIBRARIES}
