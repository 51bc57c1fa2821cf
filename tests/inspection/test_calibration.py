"""The useful range of strengths, on curves whose crossings are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.collection import load_corpus_recipe
from sia_gen.errors import ModelError, OutputError
from sia_gen.inspection import calibrate as calibrating
from sia_gen.inspection import calibration
from sia_gen.inspection.calibrate import calibrate
from sia_gen.inspection.calibration import StrengthCurve, crossing, measure_curve, useful_range
from sia_gen.inspection.normal import load_normal
from sia_gen.locks import LOCKS
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.strength import Strength
from tests.corpus.conftest import save_model
from tests.sdas.test_conditioning import make_pipeline


def curve_of(medians: list[float], spread: float = 0.0, normal: float = 1.0) -> StrengthCurve:
    """A curve over strengths 0, 1, 2, ...; normal images are at `normal`, noise at 9."""
    offsets = np.array([-spread, 0.0, spread])
    return StrengthCurve(
        strengths=np.arange(len(medians), dtype=float),
        samples=np.array(medians)[:, None] + offsets,
        normal=np.full(20, normal),
        noise=np.full(5, 9.0),
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
    strengths = np.arange(len(values), dtype=float)
    found = crossing(strengths, medians, level)
    if medians[-1] <= level:
        assert found is None
    elif medians[0] > level:
        assert found == 0
    else:
        assert found is not None
        assert np.interp(found, strengths, medians) == pytest.approx(level, abs=1e-6)


def test_calibrated_recipe_holds_every_category_measured_so_far(
    recipe: Recipe, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An untrained model has no useful strength; what is found is checked above.
    ranges = iter([Strength(0.1, 0.2), Strength(0.3, 0.4)])
    monkeypatch.setattr(calibrating, "useful_range", lambda *_: next(ranges))
    monkeypatch.setattr(calibration, "SAMPLES", 2)
    for seed, category in enumerate(recipe.categories):
        save_model(tmp_path / "models" / category, seed)
    out = tmp_path / "calibration"
    for category in recipe.categories:
        calibrate(recipe, [category], photographs, tmp_path / "models", out, Runtime("fp32", "cpu"))
    written = load_corpus_recipe(out / "recipe.yaml")
    assert written.synthesis.calibrated == {"disc": "0.1:0.2", "plate": "0.3:0.4"}
    automatic = written.override({"synthesis.strength": "auto"}).synthesis
    assert automatic.strength_of("plate") == Strength(0.3, 0.4)
    page = (out / "index.html").read_text()
    assert "plate: 0.3:0.4" in page
    assert page.count("<polyline") == 1


def test_network_of_a_category_is_gone_before_the_next_is_loaded(
    recipe: Recipe,
    photographs: Path,
    tmp_path: Path,
    in_memory: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibrating, "useful_range", lambda *_: Strength(0.1, 0.2))
    monkeypatch.setattr(calibration, "SAMPLES", 2)
    for seed, category in enumerate(recipe.categories):
        save_model(tmp_path / "models" / category, seed)
    runtime, out = Runtime("bf16", "cpu"), tmp_path / "calibration"
    calibrate(recipe, recipe.categories, photographs, tmp_path / "models", out, runtime)
    assert in_memory == [0, 0]


def test_samples_are_guided_as_those_of_a_corpus(
    recipe: Recipe, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SAMPLES", 2)
    monkeypatch.setattr(calibration, "STRENGTHS", (0.0, 0.5))
    pipeline, images = make_pipeline(), load_normal(recipe, "disc", photographs, 16)
    plain, guided = (
        measure_curve(
            pipeline,
            recipe.override({"synthesis.guidance_scale": scale}),
            "cable",
            images.reference,
            images.apart,
        )[0]
        for scale in (0.0, 1e4)
    )
    assert not np.isclose(plain.samples, guided.samples).any()
    assert np.array_equal(plain.normal, guided.normal)


def test_classifier_that_guides_is_opened(
    recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "models/disc", 0)
    guided = recipe.override({"synthesis.guidance_scale": 1.0})
    with pytest.raises(ModelError, match=f"no classifier in {tmp_path}/classifier"):
        calibrate(
            guided,
            ["disc"],
            photographs,
            tmp_path / "models",
            tmp_path / "out",
            Runtime("fp32", "cpu"),
            classifier=tmp_path / "classifier",
        )


def test_untrained_model_has_no_useful_strength(
    recipe: Recipe, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SAMPLES", 2)
    save_model(tmp_path / "models/disc", 0)
    with pytest.raises(ModelError, match="no useful strength for the samples of 'disc'"):
        calibrate(
            recipe,
            ["disc"],
            photographs,
            tmp_path / "models",
            tmp_path / "out",
            Runtime("fp32", "cpu"),
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCKS]


@pytest.mark.parametrize("content", ["", "[1]", '{"disc": 1}', '{"disc": {}}', "[" * 100_000])
def test_damaged_file_of_earlier_measurements_is_one_line_before_any_is_made(
    recipe: Recipe, tmp_path: Path, content: str
) -> None:
    (tmp_path / "calibration.json").write_text(content)
    save_model(tmp_path / "models/disc", 0)
    with pytest.raises(OutputError, match=r"calibration\.json is damaged\. Delete it"):
        calibrate(recipe, ["disc"], tmp_path, tmp_path / "models", tmp_path, Runtime("fp32", "cpu"))
