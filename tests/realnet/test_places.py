"""Maps in units of normal pixels at the same place of a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sia_gen.realnet import places
from sia_gen.realnet.places import PLACES, NormalPlaces, quartiles_of


def test_means_and_deviations_are_those_of_the_pixels_at_each_place() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, 2 * PLACES, 3 * PLACES)) * np.linspace(1, 3, 3 * PLACES)
    measured = NormalPlaces()
    measured.measure(maps.astype(np.float32))
    lower, median, upper = np.quantile(maps, (0.25, 0.5, 0.75), axis=(1, 2), keepdims=True)
    cells = (
        ((maps - median) / (upper - lower))
        .reshape(5, PLACES, 2, PLACES, 3)
        .transpose(1, 3, 0, 2, 4)
        .reshape(PLACES, PLACES, -1)
    )
    np.testing.assert_allclose(measured.means, cells.mean(axis=2), atol=1e-5)
    expected = np.maximum(cells.std(axis=2), places.SMALLEST_DEVIATION)
    np.testing.assert_allclose(measured.deviations, expected, rtol=1e-4)


def test_a_coarse_surface_and_a_fine_one_are_placed_alike() -> None:
    rng = np.random.default_rng(1)
    model = NormalPlaces()
    model.measure(rng.normal(size=(4, 64, 96)).astype(np.float32))
    fine = rng.normal(size=(64, 96)).astype(np.float32)
    coarse = 5 * fine + 3
    found = [np.concatenate([*model.placed(one)]) for one in (fine, coarse)]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_only_what_counts_tells_how_far_a_map_spreads() -> None:
    values = np.random.default_rng(2).normal(size=(80, 60)).astype(np.float32)
    counted = np.ones((80, 60), bool)
    counted[:, 40:] = False
    expected = quartiles_of(values[:, :40])
    values[:, 40:] = 1000
    assert quartiles_of(values, counted) == expected
    assert quartiles_of(values) != expected


def test_a_map_of_one_value_spreads_a_little() -> None:
    placed = np.concatenate([*NormalPlaces().placed(np.full((40, 50), 7, np.float32))])
    assert placed.shape == (40, 50)
    assert not placed.any()


def test_quartiles_of_a_large_map_are_about_those_of_all_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(3).normal(size=(400, 300)).astype(np.float32)
    exact = quartiles_of(values)
    monkeypatch.setattr(places, "SAMPLED", 10_000)
    np.testing.assert_allclose(quartiles_of(values), exact, atol=0.05)


@pytest.mark.parametrize("shape", [(40, 50), (2100, 33), (PLACES, PLACES)])
def test_maps_of_any_size_are_placed(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    model = NormalPlaces()
    model.means.copy_(torch.from_numpy(rng.normal(size=(PLACES, PLACES))))
    model.deviations.copy_(torch.from_numpy(rng.uniform(0.5, 2, (PLACES, PLACES))))
    values = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    both = torch.stack([model.means, model.deviations])[None].double()
    mean, deviation = interpolate(both, shape, mode="bilinear")[0]
    expected = (values.double() - mean) / deviation
    given = values.clone()
    parts = [
        model.place(given[top : top + 700], top, len(given)) for top in range(0, len(given), 700)
    ]
    assert parts[0].data_ptr() == given.data_ptr()
    torch.testing.assert_close(given.double(), expected, rtol=0, atol=1e-4)


def test_normal_photographs_have_mean_0_and_deviation_1_everywhere() -> None:
    rng = np.random.default_rng(0)
    rows = np.linspace(1, 5, 320)[:, None]
    maps = (rng.normal(size=(20, 320, 320)) * rows + rows).astype(np.float32)
    model = NormalPlaces()
    model.measure(maps)
    placed = np.stack([np.concatenate([*model.placed(one)]) for one in maps])
    assert np.abs(placed.mean(axis=(0, 2))).max() < 0.1
    assert np.abs(placed.std(axis=(0, 2)) - 1).max() < 0.1


def test_what_does_not_count_says_nothing_of_the_spread() -> None:
    """Two thirds are ignored, so what is in them is the same in all photographs."""
    counted = np.zeros((96, 96), bool)
    counted[64:] = True
    maps = np.random.default_rng(0).normal(5, 2, (20, 96, 96)).astype(np.float32)
    maps[:, ~counted] = 1
    places = NormalPlaces()
    places.measure(maps, [counted] * len(maps))
    found = np.concatenate(list(places.placed(maps[0].copy(), counted)))[counted]
    assert abs(found.mean()) < 0.1
    assert found.std() == pytest.approx(1, abs=0.1)
