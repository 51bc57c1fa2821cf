from __future__ import annotations

import numpy as np
import pytest
import torch

from sia_gen.errors import ModelError
from sia_gen.realnet.channels import (
    Decoder,
    Mode,
    ReconstructionResidualSelection,
    resize,
    select_channels,
)


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
    with pytest.raises(ModelError, match="cannot take 12 of the 11 channels"):
        ReconstructionResidualSelection([6, 5], num_max=12, num_mean=1)


def aligned_residuals(seed: int = 0) -> torch.Tensor:
    return torch.cat([resize(block, (8, 8)) for block in residuals(seed)], dim=1)


@pytest.mark.parametrize(("mode", "numbers"), [("max", (7, 0)), ("mean", (0, 7))])
def test_ablations_take_as_many_channels_by_one_criterion(
    mode: Mode, numbers: tuple[int, int]
) -> None:
    selection = ReconstructionResidualSelection([6, 5], num_max=3, num_mean=4, mode=mode)
    expected = chosen_by_definition(aligned_residuals().double().numpy(), *numbers)
    assert selection.channel_indices(aligned_residuals()).tolist() == expected
    assert selection(residuals()).shape == (4, 2, 16, 16)


def test_random_channels_are_chosen_once_and_saved() -> None:
    torch.manual_seed(0)
    first, second = (
        ReconstructionResidualSelection([6, 5], num_max=3, num_mean=4, mode="random")
        for _ in range(2)
    )
    indices = first.channel_indices(aligned_residuals())
    assert indices.shape == (4, 7)
    assert all(len(set(row.tolist())) == 7 and row.equal(indices[0]) for row in indices)
    assert torch.equal(first.channel_indices(aligned_residuals(5)), indices)
    assert not torch.equal(second.channel_indices(aligned_residuals()), indices)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.channel_indices(aligned_residuals()), indices)


def test_all_channels_are_taken_as_they_come() -> None:
    selection = ReconstructionResidualSelection([6, 5], num_max=3, num_mean=4, mode="all")
    indices = selection.channel_indices(aligned_residuals())
    assert indices.tolist() == [list(range(11))] * 4
    assert selection.decoder.coarse[1].in_channels == 11


def decoded_by_definition(decoder: Decoder, residual: np.ndarray) -> np.ndarray:
    """The decoder in float64, convolution by convolution, as loops over the kernel."""
    state = {name: value.double().numpy() for name, value in decoder.state_dict().items()}

    def convolve(x: np.ndarray, name: str) -> np.ndarray:
        weight = state[f"{name}.weight"]
        side = weight.shape[-1]
        padded = np.pad(x, ((0, 0), (0, 0), *((side // 2,) * 2,) * 2))
        height, width = x.shape[-2:]
        total = np.zeros((len(x), len(weight), height, width))
        for row in range(side):
            for column in range(side):
                part = padded[:, :, row : row + height, column : column + width]
                total += np.einsum("oc,bchw->bohw", weight[:, :, row, column], part)
        bias = state.get(f"{name}.bias", np.zeros(len(weight)))
        return total + bias[:, None, None]

    def relu(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    for layer in range(2):
        inner = convolve(relu(residual), f"residual_layers.{layer}.1")
        residual = residual + convolve(relu(inner), f"residual_layers.{layer}.3")
    hidden = convolve(relu(residual), "coarse.1")
    mean, variance = hidden.mean((0, 2, 3), keepdims=True), hidden.var((0, 2, 3), keepdims=True)
    scale, shift = (state[f"coarse.2.{name}"][:, None, None] for name in ("weight", "bias"))
    hidden = relu((hidden - mean) / np.sqrt(variance + 1e-5) * scale + shift)
    hidden = relu(convolve(relu(convolve(hidden, "coarse.4")), "coarse.6"))
    height, width = (2 * side for side in hidden.shape[-2:])
    rows = np.linspace(0, hidden.shape[-2] - 1, height)
    columns = np.linspace(0, hidden.shape[-1] - 1, width)
    low_rows, low_columns = (
        np.minimum(places.astype(int), side - 2)
        for places, side in ((rows, hidden.shape[-2]), (columns, hidden.shape[-1]))
    )
    y, x = (rows - low_rows)[:, None], (columns - low_columns)[None]
    corner = {
        (down, right): hidden[:, :, (low_rows + down)[:, None], (low_columns + right)[None]]
        for down in (0, 1)
        for right in (0, 1)
    }
    top = corner[0, 0] * (1 - x) + corner[0, 1] * x
    bottom = corner[1, 0] * (1 - x) + corner[1, 1] * x
    fine = top * (1 - y) + bottom * y
    return convolve(relu(convolve(fine, "fine.0")), "fine.2")


def test_decoder_is_that_of_the_definition() -> None:
    torch.manual_seed(0)
    selection = ReconstructionResidualSelection([6, 5], num_max=3, num_mean=4)
    chosen = select_channels(aligned_residuals(), selection.channel_indices(aligned_residuals()))
    scaled = chosen / chosen.amax()
    expected = decoded_by_definition(selection.decoder, scaled.double().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(selection.decoder(scaled).numpy(), expected, atol=1e-4)
