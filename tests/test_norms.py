from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sia_gen.norms import ChannelwiseGroupNorm, HalfGroupNorm, converted, replace_norms


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


@pytest.mark.parametrize("kind", [ChannelwiseGroupNorm, HalfGroupNorm])
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


def test_half_norm_keeps_the_precision_it_is_given_under_autocast() -> None:
    norm = nn.GroupNorm(2, 8)
    nn.init.normal_(norm.weight)
    images = torch.randn(2, 8, 9, 9)
    half = converted(norm, HalfGroupNorm)
    with torch.autocast("cpu", torch.bfloat16):
        found = half(images.bfloat16())
        assert half(images).dtype == torch.float32
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), norm(images), atol=5e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_norm_takes_its_sums_in_float32(dtype: torch.dtype) -> None:
    """In half precision a sum of 65,536 ones would stop at 256, or be infinite."""
    images = torch.ones(1, 1, 256, 256) + torch.arange(2).repeat(128)
    found = converted(nn.GroupNorm(1, 1), HalfGroupNorm)(images.to(dtype))
    assert torch.allclose(found.float(), 2 * torch.arange(2.0).repeat(128) - 1, atol=1e-2)


def test_half_norm_learns_in_float32() -> None:
    norm = converted(nn.GroupNorm(2, 8), HalfGroupNorm)
    norm(torch.randn(2, 8, 5, 5).bfloat16()).float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
    assert norm.weight.grad.abs().min() > 0
