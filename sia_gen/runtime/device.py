"""The device, the precision and the processes of a run, through Accelerate."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from sia_gen.errors import OptionError
from sia_gen.runtime.compilation import LARGE, Execution, compiler_problem
from sia_gen.runtime.processes import join
from sia_gen.version import __version__

Precision = Literal["fp32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

# One process may have many hours more work than another before they meet; `processes` makes sure
# that none waits for a process that has stopped.
_MEETING_TIMEOUT = timedelta(days=30)
_LIBRARIES = ("torch", "diffusers", "accelerate", "timm")


@dataclass(frozen=True)
class Runtime:
    """What to run on.

    Attributes:
        precision: Type that networks compute in; weights and samples stay float32. None means
            bfloat16 if the hardware has instructions for it, else float32.
        device: Device; `"auto"` takes the best one.
        compiled: Whether networks are compiled; None compiles large work on a GPU.
        channels_last: Whether networks use the channels-last memory format; None takes what is
            faster.
    """

    precision: Precision | None = None
    device: DeviceName = "auto"
    compiled: bool | None = None
    channels_last: bool | None = None

    def accelerator(self) -> Accelerator:
        """Starts Accelerate, which joins the other processes under `accelerate launch`.

        Raises:
            OptionError: If the device or precision is not available.
            UserError: If the other processes do not come.
        """
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
        """Returns whether to compile a network on a device for some floating-point operations.

        Raises:
            OptionError: If compiling was asked for and is impossible.
        """
        if self.compiled is False:
            return False
        if self.compiled is None and (device.type != "cuda" or operations() < LARGE):
            return False
        problem = compiler_problem(device)
        if problem is not None and self.compiled:
            raise OptionError(
                problem=f"--compile: networks cannot be compiled here ({problem}).",
                fix="Install a C++ compiler and the headers of Python, on Debian 'g++' and "
                "'python3-dev', or use --no-compile.",
            )
        if problem is not None:
            print(
                f"warning: networks are not compiled, which would be faster: {problem}",
                file=sys.stderr,
            )
        return problem is None

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
