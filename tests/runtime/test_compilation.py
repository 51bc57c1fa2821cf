from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._inductor import config
from torch._inductor.graph import GraphLowering

from sia_gen.errors import OptionError
from sia_gen.runtime.device import (
    LARGE,
    Execution,
    Runtime,
    compile_network,
    compiler_problem,
    is_compiled,
)
from tests.processes import apart

pytestmark = pytest.mark.usefixtures("compiler")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, 8)
        self.convs = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convs(nn.functional.silu(self.norm(images)))


def make_block() -> Block:
    torch.manual_seed(0)
    block = Block().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block


def test_compiled_networks_give_the_same_and_always_the_same() -> None:
    images, plain = torch.randn(2, 8, 6, 6), make_block()
    found = []
    for _ in range(2):
        block = make_block()
        assert not is_compiled(block)
        compile_network(block)
        assert is_compiled(block)
        with torch.no_grad():
            found.append(block(images))
    assert torch.equal(*found)
    assert torch.allclose(found[0], plain(images), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [True, False])
def test_compiler_chooses_no_layout_that_was_turned_off(
    channels_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = []

    def decide(*given: object, **named: object) -> bool:
        decided.append(choose(*given, **named))
        return decided[-1]

    choose = GraphLowering.decide_layout_opt
    monkeypatch.setattr(GraphLowering, "decide_layout_opt", staticmethod(decide))
    # Compiled anew: what lies in a cache was decided before.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    images, block = torch.randn(2, 8, 6, 6), make_block()
    Execution(compiled=True, channels_last=channels_last).apply(block)
    with torch.no_grad():
        found = block(images)
        assert torch.allclose(found, make_block()(images), atol=1e-4)
    assert decided
    if not channels_last:
        assert not any(decided)


@pytest.mark.parametrize(
    ("asked", "operations", "device", "decision"),
    [
        (None, LARGE, CUDA, True),
        (None, LARGE / 2, CUDA, False),
        (None, LARGE, CPU, False),
        (None, LARGE, torch.device("mps"), False),
        (False, LARGE, CUDA, False),
        (True, 1, CUDA, True),
        (True, 1, CPU, True),
    ],
)
def test_compiles_what_is_large_on_a_gpu_or_what_was_asked_for(
    asked: bool | None,
    operations: float,
    device: torch.device,
    decision: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sia_gen.runtime.device.compiler_problem", lambda device: None)
    assert Runtime(compiled=asked).compiles(device, lambda: operations) is decision


def test_what_is_in_the_way_of_compiling_is_found_by_trying(tmp_path: Path) -> None:
    found = apart(problem_without_a_compiler, tmp_path)
    assert "No working C++ compiler found" in found
    assert "\n" not in found


def problem_without_a_compiler(folder: Path) -> str | None:
    """In a process of its own, for torch keeps in mind which compiler it found."""
    config.cpp.cxx = (str(folder / "missing"),)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache")
    return compiler_problem(CPU)


@pytest.mark.slow
def test_nothing_is_in_the_way_where_there_is_a_compiler() -> None:
    assert compiler_problem(CPU) is None


def test_without_a_compiler_it_is_refused_or_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sia_gen.runtime.device.compiler_problem", lambda device: "there is none")
    with pytest.raises(OptionError, match=r"networks cannot be compiled here \(there is none\)"):
        Runtime(compiled=True).compiles(CPU, lambda: LARGE)
    assert Runtime().compiles(CUDA, lambda: LARGE) is False
    assert "warning: networks are not compiled, which would be faster: there is none" in (
        capsys.readouterr().err
    )
