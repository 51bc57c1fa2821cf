"""What a corpus of twins will take, against what it took."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from diffusers import UNet2DModel

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.estimate import estimate
from sia_gen.corpus.sampling import steps_of
from sia_gen.images.found import Found
from sia_gen.run.costs import Costs
from sia_gen.run.speed import DetectorSpeed, DiffusionSpeed
from tests.corpus.conftest import RUNTIME

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

KINDS: list[tuple[dict[str, Any], int]] = [
    # Both twins take all of ten steps.
    ({}, 20),
    ({"region": "perlin"}, 20),
    # Both take three, and with inversion the photograph three.
    ({"source": "image", "start": 0.3}, 6),
    ({"source": "image", "start": 0.3, "invert": True}, 9),
    ({"source": "image", "start": 0.3, "invert": True, "edit": ["erase"]}, 12),
    ({"source": "image", "start": 0.01}, 2),
]


@pytest.mark.parametrize(("twins", "steps"), KINDS)
def test_steps_are_those_that_networks_take(
    make_twins: MakeTwins, monkeypatch: pytest.MonkeyPatch, twins: dict[str, Any], steps: int
) -> None:
    changes = {"synthesis.steps": 10, "synthesis.images": 3, "synthesis.batch_size": 3}
    options = {"twins": twins, "changes": changes, "categories": ["disc"]}
    # What chance does is learned once per category.
    _, maker = make_twins("first", **options)
    taken, forward = 0, UNet2DModel.forward
    monkeypatch.setattr("sia_gen.twins.maker.TwinMaker.measure", lambda *_: maker.opened[2])

    def counted(self: UNet2DModel, sample: Any, *rest: Any, **more: Any) -> Any:
        nonlocal taken
        taken += len(sample)
        return forward(self, sample, *rest, **more)

    monkeypatch.setattr(UNet2DModel, "forward", counted)
    make_twins("second", **options)
    assert taken == 3 * steps
    assert steps_of(maker.recipe.synthesis) == steps


@pytest.mark.parametrize("twins", [twins for twins, _ in KINDS if "invert" not in twins])
def test_run_counts_also_the_images_that_tell_what_chance_does(
    make_twins: MakeTwins, monkeypatch: pytest.MonkeyPatch, twins: dict[str, Any]
) -> None:
    taken, forward = 0, UNet2DModel.forward

    def counted(self: UNet2DModel, sample: Any, *rest: Any, **more: Any) -> Any:
        nonlocal taken
        taken += len(sample)
        return forward(self, sample, *rest, **more)

    monkeypatch.setattr(UNet2DModel, "forward", counted)
    changes = {"synthesis.steps": 10, "synthesis.images": 3, "synthesis.batch_size": 3}
    _, maker = make_twins("all", twins=twins, changes=changes, categories=["disc"])
    nothing = DetectorSpeed(features=0, score=0, step=0, anomaly=0, patch=0, reading=0)
    found = Found(2, 2, 0, 0, masks=0, defects={}, passed_over={})
    costs = Costs({"disc": found}, DiffusionSpeed(step=0, image=1), nothing)
    assert costs.synthesis(maker.recipe) == taken
    assert costs.images_within(taken, maker.recipe) == 3


def test_plan_counts_three_images_and_twice_the_steps(
    make_twins: MakeTwins, recipe: Recipe, models: Path
) -> None:
    planned = recipe.override({"synthesis.twins": {}})
    text = estimate(planned, all_categories(planned), models, RUNTIME)
    assert "steps          40 (4 per sample)" in text
    assert "twins/s with" in text
    corpus, _ = make_twins()
    size = sum(path.stat().st_size for path in corpus.glob("data/**/*.tar"))
    number, prefix = re.search(r"size +([\d.]+) (k?)B \(png\)", text).groups()
    # Tar files end with blocks of padding, which count in shards this small.
    assert float(number) * (1000 if prefix else 1) == pytest.approx(size - 4 * 5120, rel=0.2)
