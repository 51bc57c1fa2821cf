"""What a pipeline is called with, checked and made tensors of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

Photographs = torch.Tensor | Image.Image | Sequence[Image.Image]
Numbers = float | Sequence[float] | torch.Tensor


def one_per_image(name: str, value: Numbers, num_images: int) -> torch.Tensor:
    """A number for each image, (B,), float32; >= 0."""
    values = torch.as_tensor(value, dtype=torch.float32)
    if values.ndim > 0 and values.shape != (num_images,):
        msg = f"{len(values)} values of {name} do not fit {num_images} images"
        raise ValueError(msg)
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        msg = f"{name} must be finite and >= 0, not {value}"
        raise ValueError(msg)
    return values.expand(num_images)


def strength_of(value: Numbers, shape: Sequence[int]) -> torch.Tensor:
    """The strength of each image, (B,), or of each of its pixels, (B, 1, H, W), float32; >= 0.

    Args:
        value: One for all, one per image, or a map.
        shape: Of the images, (B, C, H, W).
    """
    number, _, height, width = shape
    if not isinstance(value, torch.Tensor) or value.ndim <= 1:
        return one_per_image("strength", value, number)
    if value.shape != (number, 1, height, width):
        msg = (
            f"strength of shape {tuple(value.shape)} does not fit {number} images: a map has "
            f"the shape {(number, 1, height, width)}"
        )
        raise ValueError(msg)
    return one_per_image("strength", value.flatten(), value.numel()).view(value.shape)


def photographs(images: Photographs, channels: int, size: int) -> torch.Tensor:
    """Photographs as (B, C, H, W), float32 in [-1, 1].

    Args:
        images: Pictures of the mode L or RGB, or a tensor (B, C, H, W) in [0, 1].
        channels: C of the model.
        size: H and W of the model.

    Raises:
        ValueError: If they are of another mode, size or range.
    """
    if isinstance(images, Image.Image):
        images = [images]
    if not isinstance(images, torch.Tensor):
        images = torch.stack([from_picture(image, channels) for image in images])
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        msg = (
            f"images of shape {tuple(images.shape)} do not fit the model, which makes "
            f"(B, {channels}, {size}, {size})"
        )
        raise ValueError(msg)
    values = images.float()
    if not bool(((values >= 0) & (values <= 1)).all()):
        msg = "images must be in [0, 1]"
        raise ValueError(msg)
    return values * 2 - 1


def from_picture(image: Image.Image, channels: int) -> torch.Tensor:
    """A picture as (C, H, W), float32 in [0, 1]; `ValueError` if it is of another mode."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        msg = f"an image is of mode {image.mode}, the model makes {mode}"
        raise ValueError(msg)
    pixels = torch.from_numpy(np.array(image, np.float32) / np.float32(255))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def steps_from(start: float, num_inference_steps: int) -> int:
    """How many of the steps to take from `start`, the share of them, in (0, 1]."""
    if not (math.isfinite(start) and 0 < start <= 1):
        msg = f"start must be above 0 and at most 1, not {start}"
        raise ValueError(msg)
    return max(1, round(start * num_inference_steps))
