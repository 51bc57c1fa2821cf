"""Steers samples to a class: labels for the network, gradients of a classifier for the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sia_gen.errors import did_you_mean

ClassLabels = int | str | Sequence[int | str] | None


def resolve_labels(
    class_labels: ClassLabels, num_images: int, num_classes: int, names: Mapping[str, int]
) -> list[int]:
    """The class of each image.

    Args:
        class_labels: One index or name for all images or one per image.
        num_images: B.
        num_classes: How many classes there are.
        names: Index by name, as far as the classes have names.

    Raises:
        ValueError: If a class is missing or unknown, or if there is not one per image.
    """
    if class_labels is None:
        msg = f"the model knows {num_classes} classes, say which with class_labels"
        raise ValueError(msg)
    if isinstance(class_labels, (int, str)):
        class_labels = [class_labels] * num_images
    if len(class_labels) != num_images:
        msg = f"{len(class_labels)} class_labels do not fit {num_images} images"
        raise ValueError(msg)
    return [resolve_label(label, num_classes, names) for label in class_labels]


def resolve_label(label: int | str, num_classes: int, names: Mapping[str, int]) -> int:
    """The index of one class; see `resolve_labels`."""
    if isinstance(label, str):
        if label not in names:
            msg = f"the model knows no class '{label}'{did_you_mean(label, names)}"
            raise ValueError(msg)
        return names[label]
    if not 0 <= label < num_classes:
        msg = f"class {label} is not one of the {num_classes} of the model"
        raise ValueError(msg)
    return int(label)


def class_gradient(
    classifier: Any, sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The gradient of log p(y | x_t) with respect to x_t, image by image.

    Args:
        classifier: Gives logits (B, num_classes) for (x_t, t).
        sample: x_t, (B, C, H, W).
        timestep: t, 0 to 999.
        labels: y, (B,), int64.

    Returns:
        (B, C, H, W), float32.
    """
    with torch.enable_grad():
        noisy = sample.detach().requires_grad_()
        logits = classifier(noisy.to(classifier.dtype), timestep).float()
        chosen = logits.log_softmax(dim=1).gather(1, labels[:, None])
        # An image's term depends on that image alone, so the sum has every image's gradient.
        return torch.autograd.grad(chosen.sum(), noisy)[0]
