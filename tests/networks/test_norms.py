from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sia_gen.networks.norms import ChannelwiseGroupNorm, LeanGroupNorm, replace_norms


def converted(norm: nn.GroupNorm, kind: type[nn.GroupNorm]) -> nn.Module:
    network = copy.deepcopy(norm)
    replace_norms(network, kind)
    return network


def make_block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1), nn.Sequential(nn.GroupNorm(4, 8))
    )


@given(
    groups=st.integers(1, 4),
    each=st.integers(1, 6),
    batch=st.integers(1, 3),
    size=st.lists(st.integers(2, 7), min_size=1, max_size=2),
    offset=st.floats(-8, 8),
    channels_last=st.booleans(),
)
def test_norm_by_channels_is_a_group_norm(
    groups: int, each: int, batch: int, size: list[int], offset: float, channels_last: bool
) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, groups * each)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    images = torch.randn(batch, groups * each, *size) + offset
    if channels_last and len(size) == 2:
        images = images.contiguous(memory_format=torch.channels_last)
    exact = nn.functional.group_norm(
        images.double(), groups, norm.weight.double(), norm.bias.double(), norm.eps
    )
    assert torch.allclose(
        converted(norm, ChannelwiseGroupNorm)(images).double(), exact, rtol=1e-3, atol=1e-3
    )


def test_norm_by_channels_of_a_constant_is_its_bias() -> None:
    norm = converted(nn.GroupNorm(2, 4), ChannelwiseGroupNorm)
    assert torch.allclose(norm(torch.full((1, 4, 5, 5), 7.3)), torch.zeros(1, 4, 5, 5), atol=1e-2)


def test_norm_by_channels_keeps_the_type_and_computes_in_float32() -> None:
    norm = nn.GroupNorm(2, 8)
    images = torch.randn(2, 8, 9, 9).bfloat16()
    found = converted(norm, ChannelwiseGroupNorm)(images)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), norm(images.float()), atol=2e-2)


@pytest.mark.parametrize("kind", [ChannelwiseGroupNorm, LeanGroupNorm])
def test_norms_are_replaced_with_their_weights_and_gradients(kind: type[nn.GroupNorm]) -> None:
    block, plain = make_block(), make_block()
    replace_norms(block, kind)
    norms = [module for module in block.modules() if isinstance(module, nn.GroupNorm)]
    assert [type(norm) for norm in norms] == [kind] * 2
    assert block.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(2, 8, 6, 6)
    assert torch.allclose(block(images), plain(images), atol=1e-4)
    for network in (block, plain):
        network(images).square().sum().backward()
    for one, other in zip(block.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-3)


@given(
    groups=st.integers(1, 4),
    each=st.integers(1, 4),
    batch=st.integers(1, 3),
    size=st.lists(st.integers(2, 6), min_size=1, max_size=2),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    channels_last=st.booleans(),
)
def test_lean_norm_is_a_group_norm_in_float32(
    groups: int,
    each: int,
    batch: int,
    size: list[int],
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    """Values and gradients are those of torch's norm in float32, rounded once."""
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, groups * each)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    lean = converted(norm, LeanGroupNorm)
    images = (torch.randn(batch, groups * each, *size) + 5).to(dtype)
    if channels_last and len(size) == 2:
        images = images.contiguous(memory_format=torch.channels_last)
    ours, exact = images.clone().requires_grad_(), images.float().requires_grad_()
    found, expected = lean(ours), norm(exact)
    assert found.dtype == dtype
    # One rounding of what is given back, beside those of float32.
    rounding = max(torch.finfo(dtype).eps, 1e-4)
    assert torch.allclose(found.float(), expected, rtol=rounding, atol=1e-4)
    gradient = torch.randn_like(found)
    found.backward(gradient)
    expected.backward(gradient.float())
    assert torch.allclose(ours.grad.float(), exact.grad, rtol=rounding, atol=1e-3)
    for one, other in zip(lean.parameters(), norm.parameters(), strict=True):
        assert one.grad.dtype == torch.float32
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_lean_norm_gives_half_precision_and_keeps_its_input_alone_under_autocast() -> None:
    norm, kept = converted(nn.GroupNorm(2, 8), LeanGroupNorm), []
    images = torch.randn(2, 8, 9, 9).bfloat16()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.dtype if tensor.shape == images.shape else None)
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        assert norm(images).dtype == torch.bfloat16
    assert [one for one in kept if one] == [torch.bfloat16]


def test_lean_norm_of_inputs_without_gradients_trains_its_weights() -> None:
    norm = converted(nn.GroupNorm(2, 8), LeanGroupNorm)
    norm(torch.randn(2, 8, 5, 5).bfloat16()).float().square().sum().backward()
    assert norm.weight.grad.abs().min() > 0
