"""Estimates the memory of a training, and advises what to change if that is too much."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

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
# The CUDA context, the workspaces of cuDNN and the fragmentation of the allocator.
OVERHEAD = 1.5 * GIB
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Changes that save memory, from the least to the most.
SAVINGS: tuple[dict[str, Any], ...] = (
    {},
    {"gradient_checkpointing": True},
    {"gradient_checkpointing": True, "optimizer": "adafactor"},
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training on one device."""

    state: float  # weights, gradients, optimizer and moving average
    per_image: float  # activations stored per image of a batch
    batch_size: int

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.state + self.batch_size * self.per_image + OVERHEAD

    def describe(self) -> str:
        """Returns the figures in words."""
        return (
            f"about {self.total / GIB:.1f} GiB: {self.state / GIB:.1f} for the weights and the "
            f"optimizer, {self.per_image / GIB * 1024:.0f} MiB for each of {self.batch_size} images"
        )


def prepare_norms(network: nn.Module, kind: str, precision: str) -> None:
    """Makes a network store less in half precision on a GPU.

    `kind` is the type of the device, and `precision` that of Accelerate, "no" for float32.
    """
    if kind == "cuda" and precision != "no":
        replace_norms(network, LeanGroupNorm)


def estimate_memory(
    unet: UNet2DModel, settings: Diffusion, precision: str, processes: int = 1
) -> MemoryEstimate:
    """Estimates the memory of training a network, in a precision as Accelerate names it."""
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    moments = 8 if settings.optimizer == "adam" else 0
    # Several processes exchange a copy of the gradients; autocast keeps one of the weights.
    copies = (4 if processes > 1 else 0) + (0 if precision == "no" else 2)
    # Weights, gradients and moving average are float32.
    state = parameters * (4 + 4 + 4 + moments + copies)
    per_image = kept_per_image(unet, precision, checkpointing=settings.gradient_checkpointing)
    return MemoryEstimate(state, per_image, settings.batch_size)


def kept_per_image(unet: UNet2DModel, precision: str, *, checkpointing: bool = False) -> int:
    """Counts the bytes that the forward pass stores per image for the backward pass.

    A network of the same config runs on fake tensors, with one image and with two. They belong to
    a CPU, which stores what a GPU stores after `prepare_norms`. With checkpointing, the pass stores
    only tensors between blocks; those inside the largest block are added, for its recomputation.
    """
    return _kept(type(unet).from_config, unet.to_json_string(), precision, checkpointing)


@lru_cache(maxsize=8)
def _kept(
    build: Callable[[Any], UNet2DModel], config: str, precision: str, checkpointing: bool
) -> int:
    with FakeTensorMode():
        with torch.device("cpu"):
            model = build(json.loads(config))
        with torch.autocast("cpu", HALF.get(precision), enabled=precision in HALF):
            (one, one_block), (two, two_blocks) = count_kept(model, 1), count_kept(model, 2)
            if not checkpointing:
                return two - one
            model.enable_gradient_checkpointing()
            one, two = count_kept(model, 1)[0], count_kept(model, 2)[0]
            return two - one + two_blocks - one_block


def count_kept(unet: UNet2DModel, images: int) -> tuple[int, int]:
    """Counts the bytes stored by a forward pass, without weights: of all blocks and the largest."""
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    # References to the tensors keep their addresses from being reused.
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

    handles = []
    for module in unet.modules():
        if isinstance(module, (ResnetBlock2D, Attention)):
            handles.append(module.register_forward_pre_hook(next_block))
            handles.append(module.register_forward_hook(next_block))
    size, classes = unet.config.sample_size, unet.config.num_class_embeds
    sample = torch.empty(images, unet.config.in_channels, size, size, device=unet.device)
    zero = torch.zeros(images, dtype=torch.int64, device=unet.device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(sample, zero, class_labels=None if classes is None else zero)
    for handle in handles:
        handle.remove()
    return sum(blocks), max(blocks)


def report_memory(unet: UNet2DModel, settings: Diffusion, accelerator: Accelerator) -> None:
    """Prints how much memory a training takes, and what to change if less is free."""
    precision, processes = accelerator.mixed_precision, accelerator.num_processes
    if accelerator.device.type == "cuda":
        free = float(torch.cuda.mem_get_info(accelerator.device)[0])
    else:
        free = float(psutil.virtual_memory().available / processes)
    estimate = estimate_memory(unet, settings, precision, processes)
    text = f"memory: {estimate.describe()}; {free / GIB:.1f} free"
    if estimate.total > free:
        changes = advice(unet, settings, precision, free)
        text += f". It may not fit; change in the recipe's 'diffusion': {changes}"
    print(text, file=sys.stderr, flush=True)


def advice(unet: UNet2DModel, settings: Diffusion, precision: str, available: float) -> str:
    """Returns the changes of the settings that fit into `available` bytes, as few as possible.

    Smaller batches are accumulated, so that a step sees as many images as before.
    """
    batch_size = settings.batch_size
    for changes in SAVINGS:
        estimate = estimate_memory(unet, settings.model_copy(update=changes), precision)
        for divisor in range(1, batch_size + 1):
            smaller = replace(estimate, batch_size=batch_size // divisor)
            if batch_size % divisor or smaller.total > available or (not changes and divisor == 1):
                continue
            words = [f"{name}: {str(value).lower()}" for name, value in changes.items()]
            if divisor > 1:
                words.append(f"batch_size: {smaller.batch_size}")
                words.append(f"gradient_accumulation: {settings.gradient_accumulation * divisor}")
            return "; ".join(words)
    return "choose a smaller 'preset' or 'image_size'"


def out_of_memory(settings: Diffusion) -> tuple[str, str]:
    """Returns the problem and the fix of a training that ran out of memory."""
    changes = []
    if settings.batch_size > 1:
        changes.append(
            "halve 'batch_size' and double 'gradient_accumulation', which trains the same"
        )
    if settings.optimizer != "adafactor":
        changes.append("set 'optimizer: adafactor'")
    changes = changes or ["choose a smaller 'preset' or 'image_size'"]
    fix = f"{', or '.join(changes)}, and choose another folder with --out."
    if not settings.gradient_checkpointing:
        fix = (
            "set 'gradient_checkpointing: true', with which the training resumes from its last "
            f"checkpoint; or {fix}"
        )
    return (
        f"out of memory with 'diffusion.batch_size' {settings.batch_size} at "
        f"{settings.image_size} pixels.",
        fix[0].upper() + fix[1:],
    )
