"""The useful range of strengths, on curves whose crossings are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.config.strength import Strength
from sia_gen.errors import ModelError
from sia_gen.inspection import strength_curve
from sia_gen.inspection.distance import NormalBank, NormalImages, enlarge, load_normal
from sia_gen.inspection.strength_curve import (
    Sampler,
    StrengthCurve,
    StrengthSamples,
    crossing,
    measure_curve,
    sampler_of,
    useful_range,
)
from tests.inspection.conftest import CPU
from tests.sdas.test_guidance import make_pipeline


def curve_of(medians: list[float], spread: float = 0.0, normal: float = 1.0) -> StrengthCurve:
    """A curve over strengths 0, 1, 2, ...; normal images are at `normal`, noise at 9."""
    return StrengthCurve(
        strengths=[float(strength) for strength in range(len(medians))],
        samples=[[median + offset for offset in (-spread, 0.0, spread)] for median in medians],
        normal=[normal] * 20,
        noise=[9.0] * 5,
    )


def test_range_lies_between_normal_images_and_halfway_to_noise() -> None:
    # Abnormal from 1 on, which the line from (0, 0) to (1, 2) crosses at 0.5; nearer to noise from
    # 5 on, which the line from (2, 4) to (3, 8) crosses at 2.25.
    assert useful_range(curve_of([0.0, 2.0, 4.0, 8.0]), "x") == Strength(0.5, 2.25)


def test_samples_of_strength_zero_count_as_normal() -> None:
    # Their 95th percentile is 1.5 + 0.9 * 0.5, and the line from (0, 1.5) to (1, 3) crosses there.
    found = useful_range(curve_of([1.5, 3.0, 4.0, 8.0], spread=0.5), "x")
    assert found.low == pytest.approx((1.5 + 0.9 * 0.5 - 1.5) / 1.5, abs=1e-3)


def test_range_ends_with_what_was_measured() -> None:
    assert useful_range(curve_of([0.0, 2.0, 4.0]), "x") == Strength(0.5, 2.0)


def test_dips_of_the_curve_are_chance() -> None:
    assert useful_range(curve_of([0.0, 2.0, 1.5, 4.0, 8.0]), "x") == Strength(0.5, 3.25)


@pytest.mark.parametrize(
    ("medians", "reason"),
    [([0.5, 0.6, 0.7], "no strength makes them abnormal"), ([6.0, 7.0, 8.0], "look like noise")],
)
def test_model_without_a_useful_strength_is_told(medians: list[float], reason: str) -> None:
    with pytest.raises(ModelError, match=f"samples of 'disc': .*{reason}.* Train the model longer"):
        useful_range(curve_of(medians), "'disc'")


@given(
    values=st.lists(st.floats(0, 10), min_size=2, max_size=8),
    level=st.floats(0, 10, exclude_max=True),
)
def test_crossing_is_where_interpolation_meets_the_level(values: list[float], level: float) -> None:
    medians = np.maximum.accumulate(values)
    strengths = [float(strength) for strength in range(len(values))]
    found = crossing(strengths, medians, level)
    if medians[-1] <= level:
        assert found is None
    elif medians[0] > level:
        assert found == 0
    else:
        assert found is not None
        assert np.interp(found, strengths, medians) == pytest.approx(level, abs=1e-6)


Measure = Callable[..., StrengthCurve]


@pytest.fixture
def normal(recipe: Recipe, photographs: Path) -> NormalImages:
    return load_normal(recipe, "disc", photographs, 16)


@pytest.fixture
def measure(recipe: Recipe, normal: NormalImages, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measures samples of two strengths: `measure("white", guidance_scale=1)`."""
    monkeypatch.setattr(strength_curve, "SAMPLES", 2)
    monkeypatch.setattr(strength_curve, "STRENGTHS", (0.0, 0.5))
    pipeline = make_pipeline()
    bank = NormalBank.of(recipe, normal.reference, CPU)

    def run(kind: str = "white", sampler: Sampler | None = None, **changes: float) -> StrengthCurve:
        changed = recipe.override({f"synthesis.{name}": value for name, value in changes.items()})
        twins = sampler is not None
        sampler = sampler or sampler_of(pipeline, changed, "cable", kind)
        return measure_curve(sampler, bank, changed, kind, normal, twins=twins)[0]

    return run


def test_noise_is_as_large_as_the_samples_and_enlarged_like_them(
    recipe: Recipe, normal: NormalImages, measure: Measure
) -> None:
    pixels = np.random.default_rng(recipe.seed).normal(127.5, 127.5, (2, 16, 16)).clip(0, 255)
    large = enlarge([Image.fromarray(one.astype(np.uint8)) for one in pixels], 64)
    bank = NormalBank.of(recipe, normal.reference, CPU)
    assert measure().noise == pytest.approx(bank.distances(large), rel=1e-4)


def test_correlated_noise_is_measured_at_its_own_strengths(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an untrained model makes looks like noise at any strength.
    monkeypatch.setattr(StrengthCurve, "object_until", np.inf)
    white, blobs = measure("white"), measure("blobs")
    assert white.strengths == [0.0, 0.5]
    assert blobs.strengths == [0.0, 0.05]
    assert blobs.samples[0] == white.samples[0]
    assert blobs.samples[1] != white.samples[1]


def test_samples_are_guided_as_those_of_a_corpus(measure: Measure) -> None:
    plain, guided = (measure(guidance_scale=scale) for scale in (0.0, 1e4))
    assert not np.isclose(plain.samples, guided.samples).any()
    assert np.array_equal(plain.normal, guided.normal)


def test_twins_are_useful_from_where_nine_masks_in_ten_show_something() -> None:
    curve = curve_of([0.0, 2.0, 4.0, 8.0])
    assert useful_range(curve, "x").low == 0.5
    # The line from (1, 0.8) to (2, 1) crosses 0.9 at 1.5, and noise does not matter.
    seen = curve.model_copy(update={"masked": [0.0, 0.8, 1.0, 0.9]})
    assert useful_range(seen, "x") == Strength(1.5, 2.5 * 1.5)
    with pytest.raises(ModelError, match="no strength makes them abnormal"):
        useful_range(curve.model_copy(update={"masked": [0.0, 0.8, 0.9, 0.9]}), "x")
    # Edits are seen at strength 0 already.
    edited = curve.model_copy(update={"masked": [1.0, 1.0, 1.0, 1.0]})
    assert useful_range(edited, "x") == Strength(0.0, 2.25)


def noisy_from(strength: float, calls: list[float]) -> Sampler:
    """Makes grey twins that are noise in a region from a strength on."""
    region = np.zeros((2, 16, 16), bool)
    region[:, 4:12, 4:12] = True
    noise = np.random.default_rng(0).normal(127.5, 127.5, region.shape).clip(0, 255)

    def sample(asked: float) -> StrengthSamples:
        calls.append(asked)
        grey = np.full(region.shape, 128, np.uint8)
        images = np.where(region & (asked >= strength), noise, grey).astype(np.uint8)
        pictures, twins = ([Image.fromarray(one) for one in some] for some in (images, grey))
        regions = region & (asked > 0)
        return StrengthSamples(pictures, twins, regions, [bool(asked)] * 2)

    return sample


def test_twins_are_measured_in_their_regions_until_no_more_is_useful(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strength_curve, "STRENGTHS", (0.0, 0.2, 0.5, 0.7, 1.0, 2.0, 4.0, 5.0, 6.0))
    calls: list[float] = []
    curve = measure("white", noisy_from(1.0, calls))
    # From 0.45 on all have masks, so above 2.5 times that nothing is useful.
    assert sorted(calls) == curve.strengths == [0.0, 0.5, 1.0, 4.0]
    assert useful_range(curve, "x") == Strength(0.45, 1.125)
    assert curve.masked == [0.0, 1.0, 1.0, 1.0]
    # What was normal stays as far from the bank as the twins; the noise is that of the region.
    assert curve.samples[0] == curve.samples[1] == curve.normal
    assert np.median(curve.samples[2]) > curve.object_until > max(curve.normal)


def test_curve_comes_back_from_plain_numbers() -> None:
    curve = curve_of([0.0, 2.0, 4.0])
    assert StrengthCurve.parse(curve.model_dump()) == curve


@pytest.mark.parametrize(
    "change",
    [
        {"strengths": 1.0},
        {"strengths": [0.0, 1.0]},
        {"samples": [1.0, 2.0, 3.0]},
        {"samples": [[1.0], [1.0, 2.0], [3.0]]},
        {"samples": [[], [], []]},
        {"normal": []},
        {"noise": "none"},
        {"noise": {"x": 1}},
        {"masked": [0.0, 1.0]},
    ],
)
def test_what_is_no_curve_is_refused(change: dict[str, object]) -> None:
    content = curve_of([0.0, 2.0, 4.0]).model_dump() | change
    with pytest.raises(ValueError, match=r"samples|strengths|normal|noise|masks"):
        StrengthCurve.parse(content)
