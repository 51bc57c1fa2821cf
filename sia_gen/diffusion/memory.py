"""How much memory a training will take, and what to change when that is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

from sia_gen.settings import Diffusion

GIB = 2**30
# The CUDA context, cuDNN's workspaces and what the allocator cannot use.
OVERHEAD = 1.5 * GIB
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


def estimate_memory(
    unet: UNet2DModel, settings: Diffusion, precision: str, processes: int = 1
) -> MemoryEstimate:
    """Estimates the memory of training `unet`.

    Args:
        unet: The network, best on the meta device; what it keeps is counted by running it there.
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
    kept = kept_activations(unet, checkpointing=settings.gradient_checkpointing)
    return MemoryEstimate(state, kept * (0.5 if half else 1.0), settings.batch_size)


def kept_activations(unet: UNet2DModel, *, checkpointing: bool) -> int:
    """Bytes of what one image's forward pass keeps for the backward pass, in float32.

    With checkpointing it is what is kept between the blocks, and the largest block once.
    """
    whole, largest = count_kept(unet)
    if not checkpointing:
        return whole
    unet.enable_gradient_checkpointing()
    between, _ = count_kept(unet)
    unet.disable_gradient_checkpointing()
    return between + largest


def count_kept(unet: UNet2DModel) -> tuple[int, int]:
    """Bytes kept by one forward pass in all, and by the block that keeps most."""
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
    sample = torch.empty(1, unet.config.in_channels, size, size, device=unet.device)
    zero = torch.zeros(1, dtype=torch.int64, device=unet.device)
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
    return (
        f"out of memory with 'diffusion.batch_size' {settings.batch_size} at "
        f"{settings.image_size} pixels.",
        "Set 'gradient_checkpointing: true', with which it goes on from the last checkpoint; or "
        "halve 'batch_size' and double 'gradient_accumulation', which trains the same, then set "
        "'optimizer: adafactor', and choose another folder with --out.",
    )
