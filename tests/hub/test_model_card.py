"""What the cards of models tell."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sia_gen.hub.model_card import count_parameters


def test_parameters_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(3, 5), "bias": torch.zeros(()), "none": torch.zeros(0)}, path)
    assert count_parameters(path) == 16
