"""What a run does in the minutes it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import OptionError
from sia_gen.run import plan
from sia_gen.run.plan import ENOUGH_STEPS, Speed, fit_into, measure_speed
from sia_gen.run.run import plan_run
from sia_gen.runtime.device import Runtime

CPU = Runtime("fp32", "cpu")


def planned(recipe: Recipe, minutes: float, step: float, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe of a run on a machine that trains this fast at `TIMED_SIZE`."""
    monkeypatch.setattr(plan, "measure_speed", lambda *_: Speed(step, step / 50))
    return fit_into(recipe, ["disc"], minutes, CPU)


def test_training_takes_its_share_of_the_minutes(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minutes, step in ((5, 0.2), (30, 0.2), (30, 3.0), (600, 0.5)):
        found = planned(recipe, minutes, step, monkeypatch).diffusion
        seconds = step * (found.image_size / 64) ** 2 * found.max_steps
        assert seconds <= plan.TRAINING * 60 * minutes + 1e-6
        if found.max_steps < plan.MOST_STEPS and found.image_size > 32:
            # No larger step count would have fitted.
            assert seconds + step * (found.image_size / 64) ** 2 > plan.TRAINING * 60 * minutes


def test_faster_machines_and_more_minutes_train_larger_networks(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [
        planned(recipe, minutes, 0.5, monkeypatch).diffusion.image_size for minutes in (3, 10, 60)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    large = planned(recipe, 60, 0.5, monkeypatch).diffusion
    assert large.max_steps >= ENOUGH_STEPS


def test_too_few_minutes_are_one_line(recipe: Recipe) -> None:
    with pytest.raises(OptionError, match=r"0\.5 minutes are too few .* --minutes 2"):
        fit_into(recipe, ["disc"], 0.5, CPU)


def test_speed_is_measured(recipe: Recipe) -> None:
    speed = measure_speed(recipe, CPU, recipe.diffusion.preset)
    assert speed.step > 0
    assert speed.image > 0


def test_plan_says_what_was_found(recipe: Recipe, photographs: Path) -> None:
    found = plan_run(recipe, ["disc"], photographs, CPU, minutes=None)
    content = found.as_json()
    counts = content["found"]
    assert counts["fit"] + counts["validation"] == len(
        [*(photographs / "disc/train/good").iterdir()]
    )
    assert counts["test_anomalous"] == sum(counts["defects_by_kind"].values()) > 0
    assert content["minutes"] is None
    assert [*content["steps"]] == ["train-diffusion", "synthesize", "fit-realnet", "evaluate"]
    assert any("good images to learn from" in line for line in found.lines())


def test_twins_take_longer_than_single_samples(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = recipe.override({"synthesis.twins": {"source": "noise"}})
    for minutes in (3, 10, 60):
        plain = planned(recipe, minutes, 2.0, monkeypatch).synthesis.images
        beside = planned(twins, minutes, 2.0, monkeypatch).synthesis.images
        assert plan.FEWEST_IMAGES <= beside <= plain <= plan.MOST_IMAGES
        if beside > plan.FEWEST_IMAGES:
            # With the images that tell what differs by chance.
            assert (beside + 96) * plan.MASK_SECONDS <= plan.SYNTHESIS * 60 * minutes
