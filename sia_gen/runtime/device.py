"""The device, the precision and the processes of a run, through Accelerate."""

from __future__ import annotations

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

MEETING_TIMEOUT = timedelta(days=30)
LIBRARIES = ("torch", "diffusers", "accelerate", "timm")


@dataclass(frozen=True)
class Runtime:
    """What to run on.

    Attributes:
        precision: What networks compute in; weights and samples stay float32. None takes bfloat16
            where the hardware computes it, else float32.
        device: `"auto"` takes the best there is.
        compiled: Whether networks are compiled; None compiles them on a GPU, for work that is
            large enough.
        channels_last: Whether networks compute in channels-last memory; None decides by what is
            faster there.
    """

    precision: Precision | None = None
    device: DeviceName = "auto"
    compiled: bool | None = None
    channels_last: bool | None = None

    def accelerator(self) -> Accelerator:
        """Starts Accelerate; under `accelerate launch` it joins the other processes.

        Raises:
            OptionError: If the device or precision is not to be had here.
            UserError: If the other processes do not come.
        """
        return make_accelerator(self.precision, self.device)

    def compiles(self, device: torch.device, operations: Callable[[], float]) -> bool:
        """Whether to compile a network.

        Args:
            device: It runs there.
            operations: Tells how many floating-point operations it is for.

        Raises:
            OptionError: If it was asked for, and cannot be done.
        """
        if self.compiled is False:
            return False
        if self.compiled is None and (device.type != "cuda" or operations() < LARGE):
            return False
        problem = compiler_problem(device)
        if problem is not None and self.compiled:
            raise OptionError(
                problem=f"--compile: networks cannot be compiled here ({problem}).",
                fix="It takes a C++ compiler and the headers of Python, on Debian 'g++' and "
                "'python3-dev'; or use --no-compile.",
            )
        if problem is not None:
            print(
                f"warning: networks are not compiled, which would be faster: {problem}",
                file=sys.stderr,
            )
        return problem is None

    @property
    def detector_channels_last(self) -> bool:
        """Whether a RealNet computes in channels-last memory, fastest for its convolutions."""
        return self.channels_last is not False

    def execution(self, device: torch.device, *, compiled: bool) -> Execution:
        """How the networks of a diffusion model are executed.

        Channels last is what convolutions are fastest in, but on CUDA every `GroupNorm` of torch
        turns it back, unless it is compiled.
        """
        if self.channels_last is None:
            return Execution(compiled, channels_last=compiled or device.type != "cuda")
        return Execution(compiled, self.channels_last)


def make_accelerator(precision: Precision | None, device: DeviceName) -> Accelerator:
    """The `Accelerator` of a run; see `Runtime`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError(
            problem="--device cuda: this machine has no CUDA device.", fix="Leave --device out."
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise OptionError(
            problem="--device mps: this machine has no MPS device.", fix="Leave --device out."
        )
    join()
    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if precision == "fp16" and on_cpu:
        raise OptionError(problem="--precision fp16 needs a GPU.", fix="Use bf16 or fp32.")
    chosen = precision or ("bf16" if computes_bfloat16(on_cpu) else "fp32")
    return Accelerator(
        mixed_precision="no" if chosen == "fp32" else chosen,
        cpu=device == "cpu",
        # Between two meetings one process may have many hours of work more than another; none waits
        # for one that is gone, see `sia_gen.runtime.processes`.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=MEETING_TIMEOUT)],
    )


def computes_bfloat16(on_cpu: bool) -> bool:
    """Whether the hardware has bfloat16 instructions; emulating them would be slow."""
    if on_cpu:
        # torch has no public name for this; without it the safe answer is no.
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def loader_workers(accelerator: Accelerator) -> int:
    """Processes that prepare batches: none beside a CPU that is busy computing."""
    if accelerator.device.type == "cpu":
        return 0
    return min(8, (os.cpu_count() or 1) // int(accelerator.num_processes))


def environment() -> dict[str, str]:
    """Versions of what a result depends on, saved beside it."""
    ours = {"sia-gen": __version__, "python": platform.python_version()}
    return ours | {name: version(name) for name in LIBRARIES}
