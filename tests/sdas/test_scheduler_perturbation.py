"""Reverse steps with a field of correlated noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sia_gen.sdas.perturbation import draw_fields
from sia_gen.sdas.scheduler import VARIANCE_TYPES
from tests.sdas.reference import reverse_step
from tests.sdas.test_perturbation import CORRELATED, CPU, fields
from tests.sdas.test_scheduler import generators, model_output, noise_of, scheduler

SHAPE = (3, 2, 8, 8)


@pytest.mark.parametrize("timestep", [0, 50, 950])
@pytest.mark.parametrize("form", ["scalar", "per image", "map"])
@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
def test_step_adds_the_field_to_its_own_noise(variance_type: str, form: str, timestep: int) -> None:
    strength: Any = {
        "scalar": 0.3,
        "per image": torch.tensor([0.0, 0.3, 2.0]),
        "map": torch.linspace(0, 2, 3 * 8 * 8).view(3, 1, 8, 8),
    }[form]
    sample, output = noise_of(5), model_output(variance_type, 6)
    field = draw_fields(["blobs", "pink", "streaks"], SHAPE[1:], [1, 2, 3], CPU)
    found, _ = scheduler(variance_type).step(
        output,
        timestep,
        sample,
        generators(7, 3),
        return_dict=False,
        strength=strength,
        perturbation=field,
    )
    step = reverse_step(output.double().numpy(), timestep, sample.double().numpy(), variance_type)
    scale = np.sqrt(np.asarray(strength, np.float64))
    scale = scale.reshape(-1, 1, 1, 1) if scale.ndim == 1 else scale
    noise = noise_of(7).double().numpy() + scale * field.double().numpy()
    expected = step.mean + (np.sqrt(step.variance) * noise if timestep else 0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CORRELATED)
def test_noise_of_a_step_has_one_plus_s_times_the_variance_at_every_pixel(kind: str) -> None:
    number, size, timestep = 3000, 8, 500
    shape = (number, 1, size, size)
    strength = torch.linspace(0, 3, size * size).view(1, 1, size, size).expand(number, -1, -1, -1)
    sample, output = torch.zeros(shape), torch.zeros(shape)
    found, _ = scheduler("fixed_small").step(
        output,
        timestep,
        sample,
        torch.Generator().manual_seed(0),
        return_dict=False,
        strength=strength,
        perturbation=fields(kind, number, shape[1:]),
    )
    step = reverse_step(*(np.zeros((1, 1, 1, 1)), timestep, np.zeros((1, 1, 1, 1)), "fixed_small"))
    ratios = np.square(found.double().numpy()).mean(axis=0) / step.variance.item()
    lowest, highest = stats.chi2.ppf([1e-7, 1 - 1e-7], number) / number
    ratios /= 1 + strength[0].double().numpy()
    assert (lowest < ratios).all()
    assert (ratios < highest).all()


def test_default_field_is_an_attribute() -> None:
    field = fields("pink", 3, SHAPE[1:])
    sample, output = noise_of(1), model_output("fixed_small", 2)
    given = scheduler("fixed_small")
    expected = given.step(output, 500, sample, generators(3, 3), strength=0.4, perturbation=field)
    default = scheduler("fixed_small")
    default.strength, default.perturbation = 0.4, field
    found = default.step(output, 500, sample, generators(3, 3))
    assert torch.equal(found.prev_sample, expected.prev_sample)
    assert torch.equal(found.pred_original_sample, expected.pred_original_sample)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        (torch.zeros(3, 2, 8, 7), r"shape \(3, 2, 8, 7\) does not fit \(3, 2, 8, 8\)"),
        (torch.zeros(1, 2, 8, 8), r"shape \(1, 2, 8, 8\) does not fit"),
        (torch.full(SHAPE, math.nan), "perturbation must be finite"),
        (torch.full(SHAPE, math.inf), "perturbation must be finite"),
    ],
)
def test_field_that_cannot_be_used_is_refused(field: torch.Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        scheduler("fixed_small").step(noise_of(1), 500, noise_of(2), perturbation=field)


def test_refused_field_leaves_the_generator_as_it_is() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.raises(ValueError, match="does not fit"):
        scheduler("fixed_small").step(
            noise_of(1), 500, noise_of(2), generator, perturbation=torch.zeros(1)
        )
    assert torch.equal(generator.get_state(), before)
