"""Distances of images from their twins, and what chance does to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sia_gen.config.recipe import Recipe
from sia_gen.inspection.distance import open_backbone
from sia_gen.twins import masks
from sia_gen.twins.masks import (
    ChangeMeasure,
    chance_seeds,
    change_mask,
    enlarged,
    measure_chance,
    smoothed,
)
from tests.conftest import recipe_content


def images(number: int, seed: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, channels, 4, 4, generator=generator)
    return interpolate(coarse, size=(16, 16), mode="bilinear")


@pytest.mark.parametrize("channels", [1, 3])
def test_distance_is_that_of_the_definition(recipe: Recipe, channels: int) -> None:
    backbone = open_backbone(recipe)
    normal, one, other = (images(n, s, channels) for n, s in ((20, 0), (3, 1), (3, 2)))
    measure = ChangeMeasure.of(backbone, 64, normal)
    features = [
        [layer.double() for layer in backbone(enlarged(some, 64))] for some in (normal, one, other)
    ]
    expected = [(one - other).abs().double().mean(dim=1)]
    for reference, first, second in zip(*features, strict=True):
        std = reference.std(dim=(0, 2, 3), correction=0).clamp(min=1e-3)[:, None, None]
        apart = (((first - second) / std) ** 2).mean(dim=1, keepdim=True) ** 0.5
        expected.append(interpolate(apart, size=(16, 16), mode="bilinear")[:, 0])
    found = list(measure.parts(one, other))
    assert len(found) == 3
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(part.double(), wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        measure.distances(one, other).double(), sum(expected) / 3, rtol=1e-3, atol=1e-4
    )
    assert not measure.distances(one, one).any()


def disturb(base: torch.Tensor, seeds: list[int], amount: float) -> torch.Tensor:
    noise = [torch.randn(base.shape[1:], generator=generator(seed)) for seed in seeds]
    return (base + amount * torch.stack(noise)).clamp(0, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_chance_does_is_left_out_and_more_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images of one part, of which noise of 2 % of the range is chance."""
    # Layers that have learned nothing do not say where an image changed.
    recipe = Recipe.parse(recipe_content(), where="conftest")
    monkeypatch.setattr(masks, "IMAGES", 24)

    def sample(numbers: range, some: list[int], given: torch.Tensor | None) -> torch.Tensor:
        base = torch.cat([images(1, number % 5) for number in numbers]) if given is None else given
        return disturb(base, some, 0.02)

    found = measure_chance(sample, open_backbone(recipe), 64, "parts.disc", 8)
    assert len(found.measure.levels) == 3
    normal = sample(range(100), chance_seeds("test", 0, range(100)), None)
    again = sample(range(100), chance_seeds("test", 1, range(100)), normal)
    spoilt = again.clone()
    spoilt[:, :, 4:12, 4:12] = 1 - spoilt[:, :, 4:12, 4:12]

    def masks_of(changed: torch.Tensor) -> np.ndarray:
        maps = found.measure.distances(changed, normal).numpy()
        return np.stack([change_mask(smoothed(one), found.limits) for one in maps])

    assert masks_of(again).any(axis=(1, 2)).mean() <= 0.01
    spots = masks_of(spoilt)
    assert spots.any(axis=(1, 2)).mean() >= 0.9
    assert spots[:, 4:12, 4:12].sum() >= 0.95 * spots.sum()


def test_seeds_of_chance_differ() -> None:
    found = [
        seed
        for name in ("a.b", "a.c")
        for time in range(3)
        for seed in chance_seeds(name, time, range(9))
    ]
    assert len(set(found)) == len(found)
