"""Decides what a run does in the minutes it has, from the measured speed of this machine.

Evaluating and reading photographs take what they take. The detector gets what its recipe asks for,
up to a share, and samples another; all that is left trains the diffusion model, at the largest size
that leaves time for enough steps.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.errors import OptionError, one_line
from sia_gen.images.found import Found
from sia_gen.run.costs import Costs
from sia_gen.run.speed import BATCH_SIZE
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import in_words, what_takes_less

DEFAULT_MINUTES = {"cpu": 15.0, "cuda": 60.0, "mps": 60.0}
# Networks and sizes in pixels to choose from, the best last.
CHOICES = {
    "cpu": [("tiny", 32), ("tiny", 64), ("tiny", 128)],
    "cuda": [("tiny", 64), ("small", 128), ("base", 256)],
    "mps": [("tiny", 32), ("tiny", 64), ("small", 128)],
}
# Fewer steps than these leave noise in what a network draws, or leave nothing but noise.
ENOUGH_STEPS, LEAST_STEPS, MOST_STEPS = 400, 50, 20_000
# Largest share of the time for the detector, and of the rest for samples.
FITTING, SYNTHESIS = 0.3, 0.15
# Of a detector that has less time than its recipe asks for.
FEWEST_BATCHES, FEWEST_PATCHES, FEWEST_FITTING_STEPS = 2, 500, 10
# Samples per category: fewer teach little, more teach no more.
FEWEST_IMAGES, MOST_IMAGES = 16, 240
# Limits of the trainings, as multiples of what is planned: steps vary, and a fit that has used half
# of its limit validates once more.
TRAINING_LIMIT, FITTING_LIMIT = 1.1, 2.0
# Seconds for loading models and writing the page, and the share of the time for all else.
AROUND, SPARE = 10.0, 0.05
PREVIEWS = 2


@dataclass(frozen=True)
class Plan:
    """What a run does, and how long that takes here."""

    recipe: Recipe
    found: Mapping[str, Found]  # by category
    minutes: float | None  # None: as long as the recipe takes
    expected: Mapping[str, str]  # what each step does
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each step, if they were timed

    def lines(self) -> list[str]:
        """Describes the plan, a line for each category and step."""
        lines = [one_line(f"{category}: {found}") for category, found in self.found.items()]
        for step, what in self.expected.items():
            took = f", about {in_words(self.seconds[step])}" if step in self.seconds else ""
            lines.append(f"{step}: {what}{took}")
        if self.seconds:
            total = AROUND + sum(self.seconds.values())
            end = datetime.now().astimezone() + timedelta(seconds=total)
            day = "" if total < 86400 / 2 else f"{end:%A %d %B}, "
            less = what_takes_less(total) if self.minutes is None else ""
            lines.append(f"all of it: about {in_words(total)}, until {day}{end:%H:%M}{less}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Returns the same as plain values; the counts are those of all categories together."""
        total: dict[str, Any] = {
            name: sum(getattr(found, name) for found in self.found.values())
            for name in ("fit", "validation", "test_normal", "test_anomalous", "masks")
        }
        for name in ("defects", "passed_over"):
            kinds: dict[str, int] = {}
            for found in self.found.values():
                for kind, count in getattr(found, name).items():
                    kinds[kind] = kinds.get(kind, 0) + count
            total[f"{name}_by_kind"] = kinds
        total["passed_over"] = sum(total["passed_over_by_kind"].values())
        return {
            "found": total,
            "minutes": self.minutes,
            "steps": dict(self.expected),
            "seconds": {step: round(took, 1) for step, took in self.seconds.items()},
        }


def default_minutes(runtime: Runtime) -> float:
    """Returns the minutes that a run takes by default."""
    return DEFAULT_MINUTES[runtime.accelerator().device.type]


def fit_into(
    recipe: Recipe, minutes: float, started: float, costs_of: Callable[[Recipe], Costs], kind: str
) -> Recipe:
    """Returns the recipe with the network, sizes and steps that the minutes allow.

    Args:
        recipe: What is asked for.
        minutes: Time for everything.
        started: When it began, by the monotonic clock.
        costs_of: Measures what a run with the network of a recipe takes here.
        kind: Type of the device.

    Raises:
        OptionError: If there are too few minutes for any model.
    """
    smallest, *larger = (
        recipe.override({"diffusion.preset": preset, "diffusion.image_size": size})
        for preset, size in CHOICES[kind]
    )
    costs = costs_of(smallest)
    fixed = AROUND + costs.fixed
    left = (1 - SPARE) * 60 * minutes - (time.monotonic() - started) - fixed
    detector = _detector(recipe.realnet, FITTING * left if left > 0 else 0, costs)
    chosen = _within(left, smallest.override(detector), costs)
    if chosen is None:
        needed = _least(smallest.override(detector), costs)
        enough = math.ceil((time.monotonic() - started + fixed + needed) / 60 / (1 - SPARE))
        raise OptionError(
            problem=f"--minutes {minutes:g} is too short on this machine.",
            fix=f"Give at least --minutes {enough}, or fewer images or categories.",
        )
    for larger_one in larger:
        costs = costs_of(larger_one)
        # Timing has taken some.
        left = (1 - SPARE) * 60 * minutes - (time.monotonic() - started) - fixed
        found = _within(left, larger_one.override(detector), costs)
        if found is None or found.diffusion.max_steps < ENOUGH_STEPS:
            break
        chosen = found
    return chosen


def _within(seconds: float, recipe: Recipe, costs: Costs) -> Recipe | None:
    """Returns the recipe with samples and steps of training for some seconds; None if too few."""
    fitting = costs.fitting(recipe.realnet)
    recipe = recipe.override(_samples(SYNTHESIS * (seconds - fitting), recipe, costs))
    training = seconds - fitting - costs.calibration(recipe) - costs.synthesis(recipe)
    steps = _steps_within(training, recipe, costs)
    if steps < LEAST_STEPS:
        return None
    limits = {
        "diffusion.max_minutes": TRAINING_LIMIT * training / len(costs.found) / 60,
        "realnet.max_minutes": FITTING_LIMIT * fitting / len(costs.found) / 60,
    }
    return recipe.override(_training(steps) | limits)


def _least(recipe: Recipe, costs: Costs) -> float:
    """Returns the seconds that the least training, the fewest samples and a fit take."""
    recipe = recipe.override(_samples(0, recipe, costs) | _training(LEAST_STEPS))
    samples = costs.calibration(recipe) + costs.synthesis(recipe)
    return costs.training(recipe) + samples + costs.fitting(recipe.realnet)


def _detector(settings: RealNetFit, seconds: float, costs: Costs) -> dict[str, Any]:
    """Returns the changes by which detectors are fitted in some seconds, none if they are."""
    share = seconds / costs.fitting(settings)
    if share >= 1:
        return {}
    smaller = {
        "afs_batches": max(FEWEST_BATCHES, int(share * settings.afs_batches)),
        "memory_size": max(FEWEST_PATCHES, int(share * settings.memory_size)),
        "max_steps": 1,
    }
    smaller = {name: min(value, getattr(settings, name)) for name, value in smaller.items()}
    around = costs.fitting(settings.model_copy(update=smaller))
    each = len(costs.found) * costs.fitting_step(settings)
    steps = max(FEWEST_FITTING_STEPS, int((seconds - around) / each))
    smaller["max_steps"] = min(steps, settings.max_steps)
    smaller["warmup_steps"] = min(settings.warmup_steps, steps // 4)
    return {f"realnet.{name}": value for name, value in smaller.items()}


def _samples(seconds: float, recipe: Recipe, costs: Costs) -> dict[str, Any]:
    """Returns how many samples a corpus has that is made in some seconds."""
    images = costs.images_within(seconds, recipe) if seconds > 0 else 0
    images = max(FEWEST_IMAGES, min(MOST_IMAGES, images))
    return {"synthesis.images": images, "synthesis.shard_size": images}


def _steps_within(seconds: float, recipe: Recipe, costs: Costs) -> int:
    """Returns how many steps a training of each category can take in some seconds."""
    if not seconds > 0:
        return 0
    # The number of previews, not that of steps, decides their time.
    recipe = recipe.override(_training(MOST_STEPS))
    each = len(costs.found) * costs.training_step(recipe)
    return max(0, min(MOST_STEPS, int((seconds - costs.previews(recipe)) / each)))


def _training(steps: int) -> dict[str, Any]:
    """Returns the settings of a training of few steps."""
    return {
        "diffusion.batch_size": BATCH_SIZE,
        "diffusion.max_steps": steps,
        "diffusion.learning_rate": 1e-3,
        "diffusion.warmup_steps": min(50, steps // 4),
        "diffusion.decay_from": 0.5,
        # An average over a tenth of the steps.
        "diffusion.ema_decay": round(1 - 1 / max(10, min(steps // 10, 1000)), 4),
        "diffusion.checkpoint_every": max(1, steps // 7),
        "diffusion.preview_every": max(1, -(-steps // PREVIEWS)),
    }
