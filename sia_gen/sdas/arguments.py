"""Checks the arguments of a pipeline and makes tensors of them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from sia_gen.config.strength import require_perturbation
from sia_gen.errors import did_you_mean

Photographs = torch.Tensor | Image.Image | Sequence[Image.Image]
Numbers = float | Sequence[float] | torch.Tensor
ClassLabels = int | str | Sequence[int | str] | None


def check_strength(strength: Numbers, shape: Sequence[int]) -> torch.Tensor:
    """Returns a strength as a float32 tensor: (), (B,) or (B, 1, H, W).

    Raises:
        ValueError: If it does not fit images of `shape`, is negative or is not finite.
    """
    values = _non_negative("strength", strength)
    num_images, _, *size = shape
    if list(values.shape) not in ([], [num_images], [num_images, 1, *size]):
        msg = (
            f"strength of shape {tuple(values.shape)} does not fit {num_images} images: give one "
            f"number, ({num_images},), or a map {(num_images, 1, *size)}"
        )
        raise ValueError(msg)
    return values


def check_field(field: torch.Tensor, shape: Sequence[int]) -> None:
    """Raises `ValueError` unless a field has the shape of the images and is finite."""
    if tuple(field.shape) != tuple(shape):
        msg = f"a perturbation of shape {tuple(field.shape)} does not fit {tuple(shape)}"
        raise ValueError(msg)
    if not bool(field.isfinite().all()):
        msg = "the perturbation must be finite"
        raise ValueError(msg)


def check_perturbation(perturbation: str | Sequence[str], num_images: int) -> list[str]:
    """Returns the kind of perturbation of each image.

    Raises:
        ValueError: If a kind is unknown, or there is not one per image.
    """
    if isinstance(perturbation, str):
        perturbation = [perturbation] * num_images
    if len(perturbation) != num_images:
        msg = f"{len(perturbation)} kinds of perturbation do not fit {num_images} images"
        raise ValueError(msg)
    return [require_perturbation(kind) for kind in perturbation]


def check_ratios(pixel_aspect_ratio: float | Sequence[float], num_images: int) -> list[float]:
    """Returns the aspect ratio of the pixels of each image.

    Raises:
        ValueError: If one is not above 0 and finite, or there is not one per image.
    """
    if isinstance(pixel_aspect_ratio, (int, float)):
        pixel_aspect_ratio = [pixel_aspect_ratio] * num_images
    if len(pixel_aspect_ratio) != num_images:
        msg = f"{len(pixel_aspect_ratio)} pixel aspect ratios do not fit {num_images} images"
        raise ValueError(msg)
    for ratio in pixel_aspect_ratio:
        if not (math.isfinite(ratio) and ratio > 0):
            msg = f"pixel_aspect_ratio must be finite and above 0, not {ratio}"
            raise ValueError(msg)
    return [*pixel_aspect_ratio]


def check_scales(guidance_scale: Numbers, num_images: int) -> torch.Tensor:
    """Returns a guidance scale for each image, (B,), float32; see `check_strength` for errors."""
    values = _non_negative("guidance_scale", guidance_scale)
    if values.ndim > 0 and values.shape != (num_images,):
        msg = f"{len(values)} values of guidance_scale do not fit {num_images} images"
        raise ValueError(msg)
    return values.expand(num_images)


def _non_negative(name: str, value: Numbers) -> torch.Tensor:
    # The values stay on their device: reading them from a GPU would wait for all its work.
    values = torch.as_tensor(value, dtype=torch.float32)
    valid = values.isfinite() & (values >= 0)
    if not bool(valid.all()):
        msg = f"{name} must be finite and >= 0, not {values[~valid].flatten()[0].item():g}"
        raise ValueError(msg)
    return values


def check_photographs(images: Photographs, channels: int, size: int) -> torch.Tensor:
    """Returns photographs (B, C, H, W), float32 in [-1, 1], for a model of C channels and H = W.

    Raises:
        ValueError: If they have another mode or size, or a tensor is not in [0, 1].
    """
    if isinstance(images, Image.Image):
        images = [images]
    if not isinstance(images, torch.Tensor):
        images = torch.stack([_to_tensor(image, channels) for image in images])
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


def _to_tensor(image: Image.Image, channels: int) -> torch.Tensor:
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        msg = f"an image has the mode {image.mode}, the model makes {mode}"
        raise ValueError(msg)
    pixels = torch.from_numpy(np.array(image, np.float32) / np.float32(255))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def count_images(num_images: int | None, photographs: Sequence[torch.Tensor]) -> int:
    """Returns how many images to make; `ValueError` if there are not as many photographs."""
    counts = [len(images) for images in photographs]
    if num_images is None:
        num_images = counts[0] if counts else 1
    for count in counts:
        if count != num_images:
            msg = f"{count} images to start from do not fit num_images={num_images}"
            raise ValueError(msg)
    return num_images


def steps_from(start: float, num_inference_steps: int) -> int:
    """Returns how many of the steps remain from `start`, a share in (0, 1]."""
    if not (math.isfinite(start) and 0 < start <= 1):
        msg = f"start must be above 0 and at most 1, not {start}"
        raise ValueError(msg)
    return max(1, round(start * num_inference_steps))


def resolve_labels(
    class_labels: ClassLabels, num_images: int, num_classes: int, names: Mapping[str, int]
) -> list[int]:
    """Returns the class index of each image; `names` are indices by name, if there are any."""
    if class_labels is None:
        msg = f"the model knows {num_classes} classes, choose with class_labels"
        raise ValueError(msg)
    if isinstance(class_labels, (int, str)):
        class_labels = [class_labels] * num_images
    if len(class_labels) != num_images:
        msg = f"{len(class_labels)} class_labels do not fit {num_images} images"
        raise ValueError(msg)
    return [_resolve_label(label, num_classes, names) for label in class_labels]


def _resolve_label(label: int | str, num_classes: int, names: Mapping[str, int]) -> int:
    if isinstance(label, str):
        if label not in names:
            msg = f"the model knows no class '{label}'{did_you_mean(label, names)}"
            raise ValueError(msg)
        return names[label]
    if not 0 <= label < num_classes:
        msg = f"class {label} is not one of the {num_classes} of the model"
        raise ValueError(msg)
    return int(label)
