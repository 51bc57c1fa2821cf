from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from sia_gen.diffusion.readiness import (
    Readiness,
    measure_readiness,
    nearest,
    noise_level,
    unready,
)

BLACK = np.zeros((3, 1, 32, 32), dtype=np.uint8)


def smooth(number: int, size: int = 64) -> np.ndarray:
    """Images of a ramp and a disc with a soft edge, (number, 1, size, size)."""
    y, x = np.mgrid[:size, :size] / size
    disc = 1 / (1 + np.exp(40 * (np.hypot(x - 0.5, y - 0.5) - 0.3)))
    return np.repeat((0.3 * x + 0.4 * disc)[None, None], number, axis=0)


def figures(noise: float, noise_of_images: float, error: float, distance: float) -> Readiness:
    """Of real images that are 0.1 from the nearest training image."""
    return Readiness(noise, noise_of_images, error, distance, 0.1, 0.1, 8)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
def test_noise_level_finds_the_noise_that_was_added(sigma: float) -> None:
    noise = np.random.default_rng(0).normal(0, sigma, (5, 1, 64, 64))
    assert noise_level(smooth(5) + noise) == pytest.approx(sigma, rel=0.1)


def test_noise_level_is_that_of_the_definition() -> None:
    image = np.random.default_rng(1).random((20, 30))
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = np.abs(convolve2d(image, mask, mode="valid")).sum()
    expected = np.sqrt(np.pi / 2) * total / (6 * 18 * 28)
    assert noise_level(image[None, None]) == pytest.approx(expected, rel=1e-12)


def test_noise_level_of_smooth_images_is_almost_nothing() -> None:
    assert noise_level(smooth(3)) < 0.002


def test_error_is_the_root_mean_square_difference() -> None:
    images = torch.full((2, 1, 8, 8), 0.5)
    reconstructions = images.clone()
    reconstructions[0] += 0.1
    found = measure_readiness(images, images, reconstructions, BLACK)
    assert found.reconstruction_error == pytest.approx((0.01 / 2) ** 0.5)


def test_reconstructions_count_as_the_pixels_they_would_be_saved_as() -> None:
    images = torch.ones(1, 1, 8, 8)
    assert measure_readiness(images, images, images + 3, BLACK).reconstruction_error == 0


@pytest.mark.parametrize(
    ("samples", "error", "ready"),
    [
        ((0.02, 0.01, 0.1), 0.01, True),
        ((0.2, 0.01, 0.1), 0.01, False),
        ((0.02, 0.01, 0.1), 0.3, False),
        ((0.02, 0.01, 0.4), 0.01, False),
    ],
)
def test_verdict_needs_all_three_figures(
    samples: tuple[float, float, float], error: float, ready: bool
) -> None:
    noise, noise_of_images, distance = samples
    readiness = figures(noise, 2 * noise_of_images, error, distance)
    assert readiness.ready == ready
    assert readiness.describe().startswith("ready" if ready else "not ready")
    assert ("needs more training" in readiness.describe()) != ready


def test_images_without_any_noise_do_not_divide_by_zero() -> None:
    assert Readiness(1 / 255, 0.0, 0.0, 0.0, 0.0, 0.0, 8).ratios["noise_ratio"] == 1


def test_unready_model_says_why_and_a_ready_one_nothing(tmp_path: Path) -> None:
    report = tmp_path / "training.json"
    assert unready(report) is None
    bad = figures(0.3, 0.01, 0.2, 0.1)
    report.write_text(json.dumps({"readiness": bad.to_json()}))
    assert unready(report) == bad.describe()
    report.write_text(json.dumps({"readiness": figures(0.01, 0.01, 0.02, 0.1).to_json()}))
    assert unready(report) is None
    report.write_text(json.dumps({"readiness": None}))
    assert str(unready(report)).startswith("perhaps not ready")
    report.write_text(json.dumps({"steps": 3}))
    assert unready(report) is None
    report.write_text(json.dumps({"readiness": {"noise_of_samples": 0.3, "ready": False}}))
    assert unready(report) == "not ready"
    for damaged in ("", "[" * 100_000, "\xff"):
        report.write_text(damaged, encoding="latin-1")
        assert unready(report) is None


@pytest.mark.parametrize("count", [3, 4])
def test_distance_is_that_to_the_nearest_training_image(count: int) -> None:
    training = np.random.default_rng(2).integers(0, 256, (150, 1, 32, 32), dtype=np.uint8)
    images = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def reduce(image: np.ndarray) -> np.ndarray:
        return image.reshape(16, 2, 16, 2).mean(axis=(1, 3))

    expected = [
        min(
            np.sqrt(((reduce(image[0].double().numpy()) - reduce(known[0] / 255)) ** 2).mean())
            for known in training
        )
        for image in images
    ]
    (found,) = nearest([(images, 16)], training)
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-4)


def test_parts_in_the_wrong_place_are_not_ready_whatever_their_texture() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.02, (20, 1, 64, 64))
    known, unseen = smooth(12) + noise[:12], torch.from_numpy(smooth(8) + noise[12:]).float()
    training = (known.clip(0, 1) * 255).astype(np.uint8)
    assert measure_readiness(unseen, unseen, unseen, training).ready
    moved = unseen.roll(20, dims=-1)
    readiness = measure_readiness(moved, unseen, unseen, training)
    assert readiness.ratios["noise_ratio"] < 1.2
    assert not readiness.ready


@pytest.mark.parametrize("contrast", [0.05, 0.3, 1.0])
def test_verdict_does_not_depend_on_the_contrast_of_the_images(contrast: float) -> None:
    """Images of random squares; what is found back is off by a share of their differences."""
    rng = np.random.default_rng(4)
    squares = rng.random((40, 1, 8, 8)).repeat(8, axis=2).repeat(8, axis=3)
    images = 0.5 + contrast * (squares - 0.5)
    training = (images[8:] * 255).round().astype(np.uint8)
    unseen = torch.from_numpy(images[:8]).float()
    mean = torch.from_numpy(images[8:]).float().mean(dim=0)

    def judge(share: float) -> Readiness:
        return measure_readiness(unseen, unseen, unseen.lerp(mean, share), training)

    assert judge(0.25).ready
    assert not judge(0.9).ready


def test_a_training_image_in_place_of_each_image_is_not_found_back() -> None:
    rng = np.random.default_rng(5)
    training = (smooth(30) + rng.normal(0, 0.02, (30, 1, 64, 64))).clip(0, 1)
    unseen = torch.from_numpy(smooth(3) + rng.normal(0, 0.02, (3, 1, 64, 64))).float()
    known = (training * 255).round().astype(np.uint8)
    found = measure_readiness(unseen, unseen, torch.from_numpy(training[:3]).float(), known)
    assert found.reconstruction_error < 0.05
    assert found.ratios["error_ratio"] == pytest.approx(1, abs=0.05)
    assert not found.ready


def test_report_says_what_the_verdict_rests_on() -> None:
    readiness = figures(0.01, 0.01, 0.02, 0.1)
    limits = readiness.to_json()["limits"]
    assert limits["error_ratio"] == 0.6
    for said in (limits["from"], readiness.describe(), figures(0.3, 0.01, 0.2, 0.1).describe()):
        assert "ELPV" in said
        assert "untried on other images" in said
