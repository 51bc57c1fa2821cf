"""Maps in units of normal pixels at the same place of a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sia_gen.realnet import places
from sia_gen.realnet.places import PLACES, NormalPlaces


def test_means_and_deviations_are_those_of_the_pixels_at_each_place() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, 2 * PLACES, 3 * PLACES)) * np.linspace(1, 3, 3 * PLACES)
    measured = NormalPlaces()
    measured.measure(torch.from_numpy(maps))
    cells = (
        maps.reshape(5, PLACES, 2, PLACES, 3).transpose(1, 3, 0, 2, 4).reshape(PLACES, PLACES, -1)
    )
    np.testing.assert_allclose(measured.means, cells.mean(axis=2), atol=1e-6)
    expected = np.maximum(cells.std(axis=2), places.SMALLEST_DEVIATION)
    np.testing.assert_allclose(measured.deviations, expected, rtol=1e-5)


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
    maps = torch.from_numpy((rng.normal(size=(20, 320, 320)) * rows + rows).astype(np.float32))
    model = NormalPlaces()
    model.measure(maps)
    placed = torch.stack([model.place(one.clone(), 0, 320) for one in maps])
    assert float(placed.mean(dim=(0, 2)).abs().max()) < 0.1
    assert float((placed.std(dim=(0, 2)) - 1).abs().max()) < 0.1
