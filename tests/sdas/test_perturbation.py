"""Correlated perturbation: moments and spectra of fields, steps with a field, whole samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sia_gen.config.strength import PERTURBATIONS
from sia_gen.sdas import perturbation
from sia_gen.sdas.perturbation import CHANNEL_CORRELATION, draw_fields

CPU = torch.device("cpu")
CORRELATED = PERTURBATIONS[1:]
GAUSSIAN = ("pink", "blobs", "streaks")
SHAPE = (3, 2, 8, 8)


def fields(kind: str, number: int, shape: tuple[int, int, int], ratio: float = 1.0) -> torch.Tensor:
    return draw_fields([kind] * number, shape, range(number), CPU, [ratio] * number)


@pytest.mark.parametrize(
    ("shape", "ratio"), [((1, 16, 16), 1), ((3, 15, 15), 1), ((1, 12, 17), 1), ((1, 16, 16), 0.4)]
)
@pytest.mark.parametrize("kind", CORRELATED)
def test_fields_have_mean_zero_and_variance_one_at_every_pixel(
    kind: str, shape: tuple[int, int, int], ratio: float
) -> None:
    number = 2000
    drawn = fields(kind, number, shape, ratio).double().numpy()
    assert drawn.shape == (number, *shape)
    np.testing.assert_allclose(drawn.mean(axis=(2, 3)), 0, atol=1e-6)
    # Of all pixels together, each of which has a chance of one in a billion.
    variances, spread = np.square(drawn).mean(axis=0), np.square(drawn).std(axis=0)
    assert (np.abs(variances - 1) < 6 * spread / math.sqrt(number)).all()
    assert np.abs(drawn.mean(axis=0)).max() < 6 / math.sqrt(number)


@pytest.mark.parametrize("kind", GAUSSIAN)
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


@pytest.mark.parametrize(("ratio", "height", "width"), [(0.4, 0.4, 1), (2, 1, 0.5)])
def test_blobs_are_round_in_the_photograph_that_was_stretched(
    ratio: float, height: float, width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    length, size = 0.1, 64
    monkeypatch.setattr(perturbation, "BLOB_LENGTHS", (length, length))
    drawn = fields("blobs", 1500, (1, size, size), ratio)[:, 0].double().numpy()
    mean = 2 * math.pi * length**2 * height * width
    for axis, share in ((1, height), (2, width)):
        found = [(drawn * np.roll(drawn, shift, axis)).mean() for shift in range(size // 4)]
        gaussian = np.exp(-(np.arange(size // 4) ** 2) / (2 * (length * share * size) ** 2))
        np.testing.assert_allclose(found, (gaussian - mean) / (1 - mean), atol=0.03)


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


def outline(mask: np.ndarray) -> float:
    """How long the outline of a mask is: of a line at an angle, 4 / pi pixels meet each of it."""
    edges = sum((mask != np.roll(mask, 1, axis)).sum() for axis in (0, 1))
    return float(edges) * math.pi / 4


@pytest.mark.parametrize("width", [0.008, 0.016])
def test_cracks_are_lines_of_one_width_at_any_size(
    width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perturbation, "CRACK_WIDTHS", (width, width))
    monkeypatch.setattr(perturbation, "CRACK_LENGTHS", (0.2, 0.2))
    widths, bright = [], 0
    for size in (128, 192):
        for field in fields("cracks", 20, (1, size, size))[:, 0].double().numpy():
            bright += field.max() > -field.min()
            lines = np.abs(field) > 0.5 * np.abs(field).max()
            # A line of a width w, and a length that is much longer, has an outline twice as long.
            widths.append(2 * lines.sum() / outline(lines) / size)
    assert 10 < bright < 30
    # Between the points of half the height of a Gaussian; where a line fades it is thinner.
    assert 0.65 < np.median(widths) / (2.355 * width) < 1


def test_cracks_are_alike_in_all_channels() -> None:
    drawn = fields("cracks", 3, (3, 16, 16))
    assert (drawn == drawn[:, :1]).all()


@pytest.mark.parametrize("kind", GAUSSIAN)
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
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-5)
    assert (together[0] != together[2]).any()


def test_field_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown perturbation 'blob' \(did you mean 'blobs'"):
        draw_fields(["blob"], (1, 8, 8), [1], CPU)
