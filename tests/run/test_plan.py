"""What a run does in the minutes it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError, OptionError
from sia_gen.images.found import Found
from sia_gen.images.listing import split_images
from sia_gen.images.recognition import recipe_for_folder
from sia_gen.run import plan
from sia_gen.run.costs import Costs
from sia_gen.run.plan import ENOUGH_STEPS, Plan, fit_into
from sia_gen.run.run import plan_run
from sia_gen.run.speed import DetectorSpeed, DiffusionSpeed
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import SHORTER
from tests.images.trees import write_images

CPU = Runtime("fp32", "cpu")
FOUND = Found(
    fit=90, validation=10, test_normal=20, test_anomalous=30, masks=0, defects={}, passed_over={}
)
DETECTOR = DetectorSpeed(
    features=0.02, score=0.05, step=0.06, anomaly=0.01, patch=0.003, reading=0.01, mask=0.05
)


CostsOf = Callable[[Recipe], Costs]


def costs(step: float, detector: DetectorSpeed = DETECTOR, found: Found = FOUND) -> CostsOf:
    """A machine that takes so many seconds for a step of training at 64 pixels."""

    def of(recipe: Recipe) -> Costs:
        image = step / 16 * (recipe.diffusion.image_size / 64) ** 2
        return Costs({"disc": found}, DiffusionSpeed(image, image / 3), detector)

    return of


def planned(recipe: Recipe, minutes: float, cost: CostsOf) -> Recipe:
    return fit_into(recipe, minutes, time.monotonic(), cost, "cpu")


def in_all(recipe: Recipe, cost: CostsOf) -> float:
    seconds = cost(recipe).steps(recipe)
    return plan.AROUND + sum(seconds.values())


@pytest.fixture
def own(recipe: Recipe) -> Recipe:
    """As of own photographs: twins and a memory of patches."""
    return recipe.override(
        {
            "synthesis.twins": {"source": "image"},
            "synthesis.steps": 20,
            "realnet.architecture": "retrieval",
            "realnet.rrs": "all",
            "realnet.memory_size": 5000,
            "realnet.afs_batches": 16,
            "realnet.batch_size": 16,
            "realnet.max_steps": 60,
            "realnet.validate_every": 60,
            "realnet.false_alarm_rate": 0.15,
        }
    )


@pytest.mark.parametrize("minutes", [5, 10, 30, 120])
@pytest.mark.parametrize("step", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("strength", ["0.2:0.5", "auto"])
def test_all_steps_together_take_the_minutes(
    own: Recipe, minutes: float, step: float, strength: str
) -> None:
    cost = costs(step)
    if strength == "auto" and minutes * 60 < 500 * step:
        # Too few to calibrate.
        return
    found = planned(own.override({"synthesis.strength": strength}), minutes, cost)
    if found.diffusion.max_steps < plan.MOST_STEPS:
        # A step more would not have fitted.
        planned_for = (1 - plan.SPARE) * 60 * minutes
        assert 0.97 * planned_for < in_all(found, cost) <= planned_for


@pytest.mark.parametrize(
    ("detector", "found"),
    [
        (DETECTOR._replace(reading=0.5), FOUND),
        (DETECTOR._replace(tiles=12), FOUND),
        (DETECTOR._replace(picture=1.0), FOUND),
        (DETECTOR, replace(FOUND, test_normal=2000)),
        (DETECTOR, replace(FOUND, fit=3000)),
    ],
)
def test_what_cannot_be_chosen_is_taken_from_the_rest(
    own: Recipe, detector: DetectorSpeed, found: Found
) -> None:
    cost = costs(0.5, detector, found)
    fewer = planned(own, 20, cost)
    assert in_all(fewer, cost) <= 20 * 60
    assert fewer.diffusion.max_minutes < planned(own, 20, costs(0.5)).diffusion.max_minutes


def test_faster_machines_and_more_minutes_train_larger_networks(own: Recipe) -> None:
    sizes = [planned(own, minutes, costs(0.5)).diffusion.image_size for minutes in (5, 10, 60)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    assert planned(own, 60, costs(0.5)).diffusion.max_steps >= ENOUGH_STEPS


def test_detector_takes_no_more_than_it_needs_or_its_share(own: Recipe) -> None:
    for minutes in (5, 10, 120):
        cost = costs(0.2)
        found = planned(own, minutes, cost)
        if found.realnet.max_steps == 60:
            assert found.realnet.memory_size == 5000
        else:
            assert cost(found).fitting(found.realnet) <= plan.FITTING * 60 * minutes
    assert planned(own, 120, costs(0.2)).realnet.max_steps == 60
    slow = costs(0.2, DETECTOR._replace(step=0.6))
    assert plan.FEWEST_FITTING_STEPS <= planned(own, 5, slow).realnet.max_steps < 60


@pytest.mark.parametrize("minutes", [0.1, 0.5, float("nan"), -3])
def test_too_few_minutes_are_one_line(own: Recipe, minutes: float) -> None:
    cost = costs(0.5)
    with pytest.raises(
        OptionError, match=r"is too short on this machine.* --minutes \d+"
    ) as caught:
        planned(own, minutes, cost)
    enough = int(caught.value.fix.split("--minutes ")[1].split(",")[0])
    found = planned(own, enough, cost)
    assert found.diffusion.max_steps >= plan.LEAST_STEPS
    if enough > 1:
        with pytest.raises(OptionError):
            planned(own, enough - 1, cost)


def test_time_since_the_command_began_counts(own: Recipe) -> None:
    begun = partial(fit_into, own, 10)
    now, earlier = (
        begun(time.monotonic() - gone, costs(0.5), "cpu").diffusion.max_steps for gone in (0, 120)
    )
    assert earlier < now


def test_plan_says_what_was_found_and_how_long_it_takes(recipe: Recipe, photographs: Path) -> None:
    found = plan_run(recipe, ["disc"], photographs, CPU, minutes=None)
    content = found.as_json()
    counts = content["found"]
    assert counts["fit"] + counts["validation"] == len(
        [*(photographs / "disc/train/good").iterdir()]
    )
    assert counts["test_anomalous"] == sum(counts["defects_by_kind"].values()) > 0
    assert content["minutes"] is None
    names = ["train-diffusion", "synthesize", "fit-realnet", "evaluate"]
    assert [*content["steps"]] == [*content["seconds"]] == names
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert any("good images to learn from" in line for line in found.lines())
    assert found.lines()[-1].startswith("all of it: about ")


def test_test_images_and_masks_are_checked_before_anything_long_begins(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_images(root, *(f"good/{number}.png" for number in range(9)), "bad/0.png", "masks/0.png")
    made = recipe_for_folder(root)
    Image.new("1", (8, 8)).save(root / "masks/0.png")
    with pytest.raises(ImageError, match=r"the mask .* is 8 x 8 pixels, its image 16 x 12"):
        plan_run(made, made.categories, root, CPU, minutes=15)
    (root / "bad/0.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"cannot read the image .*bad/0\.png: it is empty"):
        plan_run(made, made.categories, root, CPU, minutes=15)
    learnt = split_images(made, root, made.name).fit[:2]
    encoded = learnt[0].read_bytes()[:45]
    for cut, path in enumerate(learnt, 1):
        path.write_bytes(encoded[:-cut])
    with pytest.raises(ImageError, match=r"2 of 6 good images of .* cannot be read") as caught:
        plan_run(made, made.categories, root, CPU, minutes=15)
    assert all(str(path) in caught.value.problem for path in learnt)


def test_names_of_defects_do_not_break_lines(recipe: Recipe) -> None:
    found = replace(FOUND, defects={"we\nird\x1b[2J": 30})
    (line,) = Plan(recipe, {"disc": found}, None, {}).lines()
    assert "30 we ird [2J" in line


def test_plan_of_days_says_the_day(recipe: Recipe) -> None:
    expected = {"train-diffusion": "a network"}
    token = SHORTER.set("--minutes {minutes} takes less")
    try:
        lines = Plan(recipe, {}, None, expected, {"train-diffusion": 86400 * 3.0}).lines()
    finally:
        SHORTER.reset(token)
    assert lines[0] == "train-diffusion: a network, about 3 days"
    assert "all of it: about 3 days, until " in lines[1]
    assert "day" in lines[1].partition("until ")[2]
    assert lines[1].endswith("; --minutes 30 takes less")


def test_twins_take_longer_than_single_samples(own: Recipe) -> None:
    plain = own.override({"synthesis.twins": None})
    for minutes in (4, 10, 60):
        alone, beside = (planned(one, minutes, costs(2.0)).synthesis.images for one in (plain, own))
        assert plan.FEWEST_IMAGES <= beside <= alone <= plan.MOST_IMAGES
