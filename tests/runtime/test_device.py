from __future__ import annotations

import pytest
import torch

from sia_gen.errors import OptionError
from sia_gen.runtime.device import Execution, Runtime, environment, loader_workers


def test_float32_on_a_cpu_is_what_it_says() -> None:
    accelerator = Runtime("fp32", "cpu").accelerator()
    assert accelerator.device.type == "cpu"
    assert accelerator.mixed_precision == "no"
    assert loader_workers(accelerator) == 0


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(OptionError, match="--precision fp16 needs a GPU"):
        Runtime("fp16", "cpu").accelerator()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OptionError, match=f"--device {device}: this machine has no"):
        Runtime(None, device).accelerator()


@pytest.mark.parametrize(
    ("asked", "device", "compiled", "channels_last"),
    [
        (None, "cpu", False, True),
        (None, "mps", False, True),
        (None, "cuda", False, False),
        (None, "cuda", True, True),
        (True, "cuda", False, True),
        (False, "cpu", False, False),
        (False, "cuda", True, False),
    ],
)
def test_layout_is_what_was_asked_for_or_what_is_faster(
    asked: bool | None, device: str, compiled: bool, channels_last: bool
) -> None:
    runtime = Runtime(channels_last=asked)
    found = runtime.execution(torch.device(device), compiled=compiled)
    assert found == Execution(compiled, channels_last)


def test_versions_of_what_results_depend_on_are_named() -> None:
    assert {"sia-gen", "python", "torch", "diffusers"} <= environment().keys()
    assert torch.__version__.startswith(environment()["torch"].split("+")[0])
