"""What chooses weights and threshold: photographs kept back, and anomalies that are not learnt."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Twin
from sia_gen.realnet.selection import validate
from sia_gen.runtime.device import Runtime

SIDE = 32
PHOTOGRAPH, GENERATED, DEFECT = 250, 100, 120


class Output(NamedTuple):
    """What is read of a model's output."""

    score: torch.Tensor
    anomaly_map: torch.Tensor


class Darkness(nn.Module):
    """Finds anomalous what is dark."""

    def forward(self, images: torch.Tensor) -> Output:
        return Output(1 - images.mean(dim=(1, 2, 3)), 1 - images)


class Twins:
    """Darker than any photograph; the anomalous one less so than the normal one."""

    def draw(self, number: int) -> Twin:
        normal = np.full((1, SIDE, SIDE), GENERATED, np.uint8)
        anomalous, mask = normal.copy(), np.zeros_like(normal)
        anomalous[:, :8], mask[:, :8] = DEFECT, 255
        return Twin(anomalous, normal, mask)


def test_normal_images_are_photographs_even_if_anomalies_are_twins() -> None:
    photographs = np.full((5, 1, SIDE, SIDE), PHOTOGRAPH, np.uint8)
    source: Any = Twins()
    validation = LocalAnomalies(photographs, [], 1.0, twins=[source], twin_fraction=1.0)
    metrics = validate(validation, Darkness(), Runtime("fp32", "cpu").accelerator())  # type: ignore[arg-type]
    # Held against their normal twins, the anomalies would be found normal: 0.
    assert metrics["image_auroc"] == 1
