"""Correlated perturbation: moments and spectra of fields, steps with a field, whole samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sia_gen import SDASPipeline
from sia_gen.config.strength import PERTURBATIONS
from sia_gen.sdas import perturbation
from sia_gen.sdas.perturbation import CHANNEL_CORRELATION, draw_fields, field_seeds
from sia_gen.sdas.scheduler import VARIANCE_TYPES
from tests.sdas.reference import reverse_step
from tests.sdas.test_pipeline import make_pipeline, seeded
from tests.sdas.test_scheduler import generators, model_output, noise_of, scheduler

CPU = torch.device("cpu")
CORRELATED = PERTURBATIONS[1:]
SHAPE = (3, 2, 8, 8)


def fields(kind: str, number: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return draw_fields([kind] * number, shape, range(number), CPU)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 15, 15), (1, 12, 17)])
@pytest.mark.parametrize("kind", CORRELATED)
def test_fields_have_mean_zero_and_variance_one_at_every_pixel(
    kind: str, shape: tuple[int, int, int]
) -> None:
    number = 2000
    drawn = fields(kind, number, shape).double().numpy()
    assert drawn.shape == (number, *shape)
    np.testing.assert_allclose(drawn.mean(axis=(2, 3)), 0, atol=1e-6)
    # Of all pixels together, each of which has a chance of one in a billion.
    lowest, highest = stats.chi2.ppf([1e-9, 1 - 1e-9], number) / number
    variances = np.square(drawn).mean(axis=0)
    assert (lowest < variances).all()
    assert (variances < highest).all()
    assert np.abs(drawn.mean(axis=0)).max() < 6 / math.sqrt(number)


@pytest.mark.parametrize("kind", CORRELATED)
def test_fields_are_gaussian(kind: str) -> None:
    pixels = fields(kind, 4000, (1, 8, 8))[:, 0, 3, 5].double().numpy()
    assert stats.kstest(pixels, "norm").pvalue > 1e-4


@pytest.mark.parametrize("size", [32, 45])
def test_pink_amplitude_falls_with_the_frequency(size: int) -> None:
    drawn = fields("pink", 600, (1, size, size))[:, 0].double().numpy()
    power = np.square(np.abs(np.fft.fft2(drawn))).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(size) * size] * 2))
    assert power[0, 0] < 1e-9 * power.max()
    expected = np.where(frequency > 0, 1 / np.maximum(frequency, 1) ** 2, 0)
    expected *= size**4 / expected.sum()
    # A power is exponentially distributed, so a mean of 600 has a spread of 4 %.
    assert np.abs(power[frequency > 0] / expected[frequency > 0] - 1).max() < 0.3


@pytest.mark.parametrize("size", [32, 64])
def test_covariance_of_blobs_is_gaussian_at_any_size(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 0.06
    monkeypatch.setattr(perturbation, "BLOB_LENGTHS", (length, length))
    drawn = fields("blobs", 1500, (1, size, size))[:, 0].double().numpy()
    shifts = range(size // 4)
    found = [(drawn * np.roll(drawn, (0, shift), axis=(1, 2))).mean() for shift in shifts]
    gaussian = np.exp(-(np.arange(size // 4) ** 2) / (2 * (length * size) ** 2))
    # Without its mean a field is anticorrelated by as much everywhere.
    mean = 2 * math.pi * length**2
    expected = (gaussian - mean) / (1 - mean)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_streaks_are_longer_than_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perturbation, "STREAK_LENGTHS", (0.3, 0.3))
    monkeypatch.setattr(perturbation, "STREAK_ASPECTS", (12.0, 12.0))
    ratios, angles = [], []
    frequencies = 2j * math.pi * np.fft.fftfreq(128)
    for field in fields("streaks", 40, (1, 128, 128))[:, 0].double().numpy():
        spectrum = np.fft.fft2(field)
        slopes = [np.fft.ifft2(spectrum * f).real for f in np.meshgrid(frequencies, frequencies)]
        tensor = [[(one * other).mean() for other in slopes] for one in slopes]
        (low, high), vectors = np.linalg.eigh(tensor)
        ratios.append(math.sqrt(high / low))
        angles.append(math.atan2(vectors[1, 0], vectors[0, 0]) % math.pi)
    # The slope of a Gaussian field is as steep as its length is short.
    assert 9 < np.median(ratios) < 16
    assert stats.kstest(angles, "uniform", args=(0, math.pi)).pvalue > 1e-3


@pytest.mark.parametrize("kind", CORRELATED)
def test_channels_of_a_pixel_are_correlated(kind: str) -> None:
    drawn = fields(kind, 500, (3, 12, 12)).double().numpy()
    found = np.einsum("bchw,bdhw->cd", drawn, drawn) / (drawn.size / 3)
    expected = np.full((3, 3), CHANNEL_CORRELATION) + (1 - CHANNEL_CORRELATION) * np.eye(3)
    np.testing.assert_allclose(found, expected, atol=0.15)


@pytest.mark.parametrize("kind", CORRELATED)
def test_field_follows_from_its_seed_alone(kind: str) -> None:
    together = draw_fields([kind, "white", kind], (1, 9, 9), [7, 8, 9], CPU)
    assert not together[1].any()
    alone = draw_fields([kind], (1, 9, 9), [9], CPU)
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-6)
    assert (together[0] != together[2]).any()


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


def run(pipeline: SDASPipeline, seeds: list[int], **given: Any) -> torch.Tensor:
    arguments = {"strength": 0.5, "generator": seeded(*seeds)} | given
    images: torch.Tensor = pipeline(
        len(seeds), num_inference_steps=5, output_type="pt", **arguments
    ).images
    return images


@pytest.mark.parametrize("kind", CORRELATED)
@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_pipeline_keeps_the_field_in_all_steps(variance_type: str, kind: str) -> None:
    pipeline = make_pipeline(variance_type=variance_type)
    field = draw_fields([kind] * 2, (1, 16, 16), field_seeds(seeded(4, 5), 2), CPU)
    noise = seeded(4, 5)
    x = torch.cat([torch.randn(1, 1, 16, 16, generator=one) for one in noise])
    pipeline.scheduler.set_timesteps(5)
    with torch.no_grad():
        for timestep in pipeline.scheduler.timesteps:
            output = pipeline.unet(x, timestep).sample
            x = pipeline.scheduler.step(
                output, timestep, x, noise, strength=0.5, perturbation=field
            ).prev_sample
    found = run(pipeline, [4, 5], perturbation=kind)
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_an_image_depends_on_its_own_seed_and_kind_alone() -> None:
    pipeline, seeds = make_pipeline(3), [1, 2, 3, 4]
    together = run(pipeline, seeds, perturbation=PERTURBATIONS)
    for place, kind in enumerate(PERTURBATIONS):
        alone = run(pipeline, seeds[place : place + 1], perturbation=kind)
        torch.testing.assert_close(together[place], alone[0], rtol=0, atol=1e-5)
    white = run(pipeline, seeds)
    torch.testing.assert_close(together[0], white[0], rtol=0, atol=1e-5)
    assert all((together[place] != white[place]).any() for place in (1, 2, 3))


def test_white_is_what_it_was_bit_for_bit() -> None:
    pipeline = make_pipeline()
    torch.manual_seed(3)
    expected = run(pipeline, [1, 2], generator=None)
    torch.manual_seed(3)
    found = run(pipeline, [1, 2], generator=None, perturbation=["white", "white"])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "given", [lambda: None, lambda: torch.Generator().manual_seed(6), lambda: seeded(6, 7)]
)
def test_fields_leave_the_noise_as_it_is(given: Callable[[], Any]) -> None:
    pipeline = make_pipeline()
    normal = []
    for kind in ("blobs", "streaks"):
        torch.manual_seed(8)
        made = pipeline(
            2,
            0.5,
            given(),
            num_inference_steps=5,
            output_type="pt",
            perturbation=kind,
            return_twin=True,
        )
        normal.append(made.twins)
        assert (made.images != made.twins).any()
        assert (made.images[0] != made.images[1]).any()
    assert torch.equal(*normal)


def test_outside_of_a_region_a_sample_is_its_twin() -> None:
    pipeline, strength = make_pipeline(), torch.zeros(2, 1, 16, 16)
    strength[:, :, 4:9, 3:12] = 0.5
    made = pipeline(
        2,
        strength,
        seeded(1, 2),
        num_inference_steps=5,
        output_type="pt",
        perturbation=["blobs", "white"],
        return_twin=True,
    )
    inside = strength > 0
    assert torch.equal(made.images[~inside], made.twins[~inside])
    assert (made.images[inside] != made.twins[inside]).float().mean() > 0.5


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("blob", r"unknown perturbation 'blob' \(did you mean 'blobs'\?\)"),
        ("x", "unknown perturbation 'x', use one of white, pink, blobs, streaks"),
        (["blobs"], "1 kinds of perturbation do not fit 2 images"),
        ([], "0 kinds"),
    ],
)
def test_kind_that_cannot_be_used_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run(make_pipeline(), [1, 2], perturbation=given)


def test_field_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown perturbation 'blob' \(did you mean 'blobs'"):
        draw_fields(["blob"], (1, 8, 8), [1], CPU)


def test_refused_field_leaves_the_generator_as_it_is() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.raises(ValueError, match="does not fit"):
        scheduler("fixed_small").step(
            noise_of(1), 500, noise_of(2), generator, perturbation=torch.zeros(1)
        )
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", ["white", "streaks"])
def test_field_of_the_scheduler_does_not_reach_the_pipeline(kind: str) -> None:
    pipeline = make_pipeline()
    expected = run(pipeline, [1, 2], perturbation=kind)
    pipeline.scheduler.perturbation = fields("pink", 3, (1, 16, 16))
    assert torch.equal(run(pipeline, [1, 2], perturbation=kind), expected)


@pytest.mark.parametrize("invert", [False, True])
def test_edited_photograph_differs_from_its_twin_around_the_edit(invert: bool) -> None:
    pipeline = make_pipeline()
    original = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    edited = original.clone()
    edited[:, :, 5:8, 4:9] = 0.9
    made = pipeline(
        2,
        0.0,
        seeded(1, 2),
        num_inference_steps=6,
        output_type="pt",
        image=edited,
        twin_image=original,
        start=0.5,
        invert=invert,
        return_twin=True,
    )
    around = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    around[:, :, 4:9, 3:10] = True
    assert torch.equal(made.images[~around], made.twins[~around])
    assert (made.images[around] != made.twins[around]).float().mean() > 0.5
    plain = pipeline(
        2,
        0.0,
        seeded(1, 2),
        num_inference_steps=6,
        output_type="pt",
        image=original,
        start=0.5,
        invert=invert,
    )
    torch.testing.assert_close(made.twins, plain.images, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="need an image to start from"):
        pipeline(2, twin_image=original)
