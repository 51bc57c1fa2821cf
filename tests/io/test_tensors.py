"""Files of tensors that others made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sia_gen.io.tensors import misfit, not_finite

EXPECTED = {"a": torch.zeros(2, 3), "NONE_b": torch.zeros(2)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"a": torch.ones(2, 3).half()}, None),
        ({"a": torch.ones(3, 2)}, "its tensor 'a' is [3, 2], not [2, 3]"),
        ({"a": torch.ones(2, 3).int()}, "its tensor 'a' holds I32, not torch.float32"),
        ({"a": torch.full((2, 3), torch.inf)}, "its tensor 'a' has values that are not finite"),
        ({"NONE_b": torch.full((2,), torch.nan)}, None),
        ({"c": torch.ones(1)}, "its tensor 'c' is unknown"),
    ],
)
def test_misfit_is_named(
    tmp_path: Path, change: dict[str, torch.Tensor], problem: str | None
) -> None:
    save_file(EXPECTED | change, tmp_path / "some.safetensors")
    assert misfit(tmp_path / "some.safetensors", EXPECTED) == problem


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    save_file({"a": EXPECTED["a"]}, tmp_path / "some.safetensors")
    assert misfit(tmp_path / "some.safetensors", EXPECTED) == "its tensor 'NONE_b' is missing"


def test_values_are_read_only_if_asked_for(tmp_path: Path) -> None:
    bad = EXPECTED | {"a": torch.full((2, 3), torch.nan)}
    save_file(bad, tmp_path / "some.safetensors")
    assert misfit(tmp_path / "some.safetensors", EXPECTED, values=False) is None
    assert not_finite(bad) == "a"
    assert not_finite(EXPECTED) is None
