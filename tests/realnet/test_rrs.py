from __future__ import annotations

import numpy as np
import pytest
import torch

from sia_gen.realnet.rrs import ReconstructionResidualSelection, resize, select_channels


def residuals(seed: int = 0) -> list[torch.Tensor]:
    """Two blocks whose channels differ in scale by orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-3, 3, 6).view(1, 6, 1, 1)
    fine = torch.rand(4, 6, 8, 8, generator=generator).square() * scale
    coarse = torch.rand(4, 5, 4, 4, generator=generator).square() * 50
    return [fine, coarse]


def chosen_by_definition(residual: np.ndarray, num_max: int, num_mean: int) -> list[list[int]]:
    """Ranks channels, each normalised over the batch, image by image in float64."""
    mean = residual.mean(axis=(0, 2, 3), keepdims=True)
    normalised = (residual - mean) / np.sqrt(residual.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    chosen = []
    for image in normalised:
        by_max = sorted(range(len(image)), key=lambda c: -image[c].max())[:num_max]
        by_mean = sorted(range(len(image)), key=lambda c: -image[c].mean())[:num_mean]
        chosen.append(by_max + by_mean)
    return chosen


def test_channels_are_ranked_as_defined_and_gathered_as_they_are() -> None:
    blocks = residuals()
    aligned = torch.cat([resize(block, (8, 8)) for block in blocks], dim=1)
    selection = ReconstructionResidualSelection([6, 5], num_max=3, num_mean=4)
    indices = selection.channel_indices(aligned)
    expected = chosen_by_definition(aligned.double().numpy(), 3, 4)
    assert indices.tolist() == expected
    gathered = select_channels(aligned, indices)
    for image, channels in enumerate(expected):
        assert torch.equal(gathered[image], aligned[image, channels])


def test_ranking_in_evaluation_uses_the_statistics_of_training() -> None:
    selection = ReconstructionResidualSelection([6, 5], num_max=2, num_mean=2)
    for seed in range(30):
        selection(residuals(seed))
    selection.eval()
    aligned = torch.cat([resize(block, (8, 8)) for block in residuals(99)], dim=1)
    together = selection.channel_indices(aligned)
    alone = [selection.channel_indices(image[None])[0] for image in aligned]
    assert torch.equal(together, torch.stack(alone))


def test_ranking_takes_no_part_in_the_gradient() -> None:
    selection = ReconstructionResidualSelection([6, 5], num_max=2, num_mean=2)
    blocks = [block.requires_grad_() for block in residuals()]
    selection(blocks).sum().backward()
    assert blocks[0].grad is not None
    assert not any(parameter.requires_grad for parameter in selection.ranking_norm.parameters())


def test_logits_are_twice_as_fine_as_the_first_block() -> None:
    selection = ReconstructionResidualSelection([6, 5], num_max=2, num_mean=2)
    assert selection(residuals()).shape == (4, 2, 16, 16)


def test_resizing_interpolates_between_aligned_corners() -> None:
    found = resize(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), (3, 3))[0, 0]
    expected = torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]])
    torch.testing.assert_close(found, expected)


def test_more_channels_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot take 12 of 11 channels"):
        ReconstructionResidualSelection([6, 5], num_max=12, num_mean=1)
