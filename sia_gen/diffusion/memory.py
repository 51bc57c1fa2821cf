"""How much memory a training will take, and what to change when that is too much."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import psutil
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sia_gen.config.settings import Diffusion
from sia_gen.networks.norms import LeanGroupNorm, replace_norms

GIB = 2**30
# The CUDA context, cuDNN's workspaces and what the allocator cannot use.
OVERHEAD = 1.5 * GIB
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAN = {"gradient_checkpointing": True, "optimizer": "adafactor"}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes a training takes on one device.

    Attributes:
        state: Weights, gradients, optimiser and moving average.
        per_image: Activations kept for one image of a batch.
        batch_size: Images per pass.
    """

    state: float
    per_image: float
    batch_size: int

    @property
    def total(self) -> float:
        """All of it."""
        return self.state + self.batch_size * self.per_image + OVERHEAD

    def describe(self) -> str:
        """The figures, in GiB."""
        return (
            f"about {self.total / GIB:.1f} GiB: {self.state / GIB:.1f} for the weights and the "
            f"optimiser, {self.per_image / GIB:.2f} for each of {self.batch_size} images"
        )


def prepare_norms(network: nn.Module, kind: str, precision: str) -> None:
    """Readies a network, not yet prepared for training, to keep as little as it may.

    Args:
        network: UNet or classifier.
        kind: Of the device it will be trained on.
        precision: "no" for float32, else "bf16" or "fp16".
    """
    if kind == "cuda" and precision != "no":
        replace_norms(network, LeanGroupNorm)


def estimate_memory(
    unet: UNet2DModel,
    settings: Diffusion,
    precision: str,
    processes: int = 1,
) -> MemoryEstimate:
    """Estimates the memory of training `unet`.

    Args:
        unet: The network, best on the meta device: it is not run.
        settings: Says how it is trained.
        precision: "no" for float32, else "bf16" or "fp16".
        processes: How many train it together.
    """
    half = precision != "no"
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    moments = 8 if settings.optimizer == "adam" else 0
    # Several processes exchange a copy of the gradients; autocast keeps one of the weights.
    copies = (4 if processes > 1 else 0) + (2 if half else 0)
    # Weights, gradients and moving average are float32.
    state = parameters * (4 + 4 + 4 + moments + copies)
    per_image = kept_per_image(unet, precision, checkpointing=settings.gradient_checkpointing)
    return MemoryEstimate(state, per_image, settings.batch_size)


def kept_per_image(unet: UNet2DModel, precision: str, *, checkpointing: bool = False) -> int:
    """Bytes of what the forward pass keeps of an image for the backward pass.

    A network of the same config runs on tensors that have all but values, with one image and with
    two. They are those of a CPU, which has attention in one kernel and norms in half precision;
    with `prepare_norms` a GPU keeps the same. With checkpointing, blocks keep nothing but what is
    between them, and the one that would keep most is counted besides.
    """
    kind = cast(Hashable, type(unet))
    return kept_by_config(kind, unet.to_json_string(), precision, checkpointing)


@cache
def kept_by_config(kind: Any, config: str, precision: str, checkpointing: bool) -> int:
    """As `kept_per_image`; the networks of a recipe's categories are alike, and counted once."""
    with FakeTensorMode():
        with torch.device("cpu"):
            model = kind.from_config(json.loads(config))
        with torch.autocast("cpu", HALF.get(precision), enabled=precision in HALF):
            (one, one_block), (two, two_blocks) = count_kept(model, 1), count_kept(model, 2)
            if not checkpointing:
                return two - one
            model.enable_gradient_checkpointing()
            one, two = count_kept(model, 1)[0], count_kept(model, 2)[0]
            return two - one + two_blocks - one_block


def count_kept(unet: UNet2DModel, images: int = 1) -> tuple[int, int]:
    """Bytes kept by a forward pass in all, weights aside, and by the block that keeps most."""
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    # The tensors themselves are held, or their addresses would be used again.
    seen: dict[int, torch.Tensor] = {}
    blocks: list[int] = [0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage()._cdata
        if address not in seen and address not in weights:
            seen[address] = tensor
            blocks[-1] += tensor.untyped_storage().nbytes()
        return tensor

    def next_block(*_: Any) -> None:
        blocks.append(0)

    handles = [
        handle
        for module in unet.modules()
        if isinstance(module, (ResnetBlock2D, Attention))
        for handle in (
            module.register_forward_pre_hook(next_block),
            module.register_forward_hook(next_block),
        )
    ]
    size, classes = unet.config.sample_size, unet.config.num_class_embeds
    sample = torch.empty(images, unet.config.in_channels, size, size, device=unet.device)
    zero = torch.zeros(images, dtype=torch.int64, device=unet.device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(sample, zero, class_labels=None if classes is None else zero)
    for handle in handles:
        handle.remove()
    return sum(blocks), max(blocks)


def available_memory(accelerator: Accelerator) -> float:
    """Bytes that are free on the device of this process."""
    if accelerator.device.type == "cuda":
        return float(torch.cuda.mem_get_info(accelerator.device)[0])
    return float(psutil.virtual_memory().available / accelerator.num_processes)


def advice(unet: UNet2DModel, settings: Diffusion, precision: str, available: float) -> str:
    """The settings, as near to the present ones as possible, that fit into `available` bytes."""
    for changes in ({}, {"gradient_checkpointing": True}, LEAN):
        changed = settings.model_copy(update=changes)
        estimate = estimate_memory(unet, changed, precision)
        for divisor in divisors(settings.batch_size):
            smaller = MemoryEstimate(
                estimate.state, estimate.per_image, settings.batch_size // divisor
            )
            if smaller.total <= available and (changes or divisor > 1):
                return "; ".join(wanted_changes(settings, changes, divisor))
    return "choose a smaller 'preset' or 'image_size'"


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def wanted_changes(settings: Diffusion, changes: dict[str, Any], divisor: int) -> list[str]:
    """Changes of a recipe in words; the product of batch and accumulation stays the same."""
    words = [f"{name}: {str(value).lower()}" for name, value in changes.items()]
    if divisor > 1:
        words.append(f"batch_size: {settings.batch_size // divisor}")
        words.append(f"gradient_accumulation: {settings.gradient_accumulation * divisor}")
    return words


def out_of_memory(settings: Diffusion) -> tuple[str, str]:
    """What to say when the memory of a training ran out: the problem, and how to mend it."""
    anew = []
    if settings.batch_size > 1:
        anew.append("halve 'batch_size' and double 'gradient_accumulation', which trains the same")
    if settings.optimizer != "adafactor":
        anew.append("set 'optimizer: adafactor'")
    if not anew:
        anew.append("take a smaller 'preset' or 'image_size'")
    fix = f"{', or '.join(anew)}, and choose another folder with --out."
    if not settings.gradient_checkpointing:
        first = "set 'gradient_checkpointing: true', with which it goes on from the last checkpoint"
        fix = f"{first}; or {fix}"
    return (
        f"out of memory with 'diffusion.batch_size' {settings.batch_size} at "
        f"{settings.image_size} pixels.",
        fix[0].upper() + fix[1:],
    )
