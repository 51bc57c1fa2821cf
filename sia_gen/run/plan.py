"""Decides what a run does in the minutes it has, from the measured speed of this machine.

Half of the time trains the diffusion model, at the largest size that leaves time for enough steps.
The number of samples follows from the same measurement; the detector has a limit of its own.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import torch

from sia_gen.config.recipe import Recipe
from sia_gen.errors import OptionError
from sia_gen.images.found import Found
from sia_gen.networks.unet import build_unet
from sia_gen.runtime.device import Runtime
from sia_gen.twins.masks import IMAGES as CHANCE_IMAGES
from sia_gen.twins.masks import TIMES as CHANCE_TIMES

DEFAULT_MINUTES = {"cpu": 15.0, "cuda": 60.0, "mps": 60.0}
# Networks and sizes in pixels to choose from, the best first.
CHOICES = {
    "cpu": [("tiny", 128), ("tiny", 64), ("tiny", 32)],
    "cuda": [("base", 256), ("small", 128), ("tiny", 64)],
    "mps": [("small", 128), ("tiny", 64), ("tiny", 32)],
}
# Fewer steps than this leave noise in what a network draws.
ENOUGH_STEPS, MOST_STEPS = 400, 20_000
# Shares of the time. What is left is for loading, evaluating and pages.
TRAINING, SYNTHESIS, FITTING = 0.5, 0.1, 0.2
BATCH_SIZE = 16
# What is timed.
TIMED_STEPS, TIMED_SIZE = 3, 64
LEAST_MINUTES = 2.0
# The mask of a twin needs features of a backbone, whatever the network; about this on two cores.
MASK_SECONDS = 0.2
# Samples per category: fewer teach little, more teach no more.
FEWEST_IMAGES, MOST_IMAGES = 16, 240


class Speed(NamedTuple):
    """Seconds that a network needs for a step of training, and to denoise an image once."""

    step: float
    image: float


@dataclass(frozen=True)
class Plan:
    """What a run does, and how long that takes here."""

    recipe: Recipe
    found: Mapping[str, Found]  # by category
    minutes: float | None  # None: as long as the recipe takes
    expected: Mapping[str, str]  # what each step does

    def lines(self) -> list[str]:
        """Describes the plan, a line for each category and step."""
        lines = [f"{category}: {found}" for category, found in self.found.items()]
        lines += [f"{step}: {what}" for step, what in self.expected.items()]
        if self.minutes is not None:
            end = datetime.now().astimezone() + timedelta(minutes=self.minutes)
            lines.append(f"all of it: {self.minutes:g} minutes, until {end:%H:%M}")
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
        return {"found": total, "minutes": self.minutes, "steps": dict(self.expected)}


def default_minutes(runtime: Runtime) -> float:
    """Returns the minutes that a run takes by default."""
    return DEFAULT_MINUTES[runtime.accelerator().device.type]


def fit_into(recipe: Recipe, categories: Sequence[str], minutes: float, runtime: Runtime) -> Recipe:
    """Returns the recipe with the network, sizes and steps that the minutes allow.

    Raises:
        OptionError: If there are too few minutes for any model.
    """
    each = 60 * minutes / len(categories)
    # Written so that NaN is too few.
    if not minutes >= LEAST_MINUTES * len(categories):
        raise OptionError(
            problem=f"{minutes:g} minutes are too few for {len(categories)} models.",
            fix=f"Give at least --minutes {LEAST_MINUTES * len(categories):g}, or fewer "
            "categories with --category.",
        )
    measure = cache(partial(measure_speed, recipe, runtime))
    for preset, size in CHOICES[runtime.accelerator().device.type]:
        chosen = {"diffusion.preset": preset, "diffusion.image_size": size}
        # A network is convolutional, so its time grows with the pixels.
        speed = Speed(*(seconds * (size / TIMED_SIZE) ** 2 for seconds in measure(preset)))
        steps = min(MOST_STEPS, int(TRAINING * each / speed.step))
        if steps >= ENOUGH_STEPS:
            break
    images = _images_within(SYNTHESIS * each, speed, recipe)
    return recipe.override(
        chosen
        | _training(steps, TRAINING * each / 60)
        | {
            "synthesis.images": images,
            "synthesis.shard_size": images,
            "realnet.max_minutes": FITTING * each / 60,
        }
    )


def _training(steps: int, minutes: float) -> dict[str, Any]:
    """Returns the settings of a training of few steps."""
    return {
        "diffusion.batch_size": BATCH_SIZE,
        "diffusion.max_steps": steps,
        "diffusion.max_minutes": minutes,
        "diffusion.learning_rate": 1e-3,
        "diffusion.warmup_steps": min(50, steps // 4),
        "diffusion.decay_from": 0.5,
        # An average over a tenth of the steps.
        "diffusion.ema_decay": round(1 - 1 / max(10, min(steps // 10, 1000)), 4),
        "diffusion.checkpoint_every": max(1, steps // 7),
        "diffusion.preview_every": max(1, steps // 2),
    }


def _images_within(seconds: float, speed: Speed, recipe: Recipe) -> int:
    """Returns how many samples can be made, besides those that tell what twins differ by chance."""
    passes, twins = recipe.synthesis.steps, recipe.synthesis.twins
    if twins is not None and twins.source == "image":
        passes = round(passes * twins.start)
    each, by_chance = speed.image * max(1, passes), 0
    if twins is not None:
        each, by_chance = each + MASK_SECONDS, CHANCE_IMAGES * (1 + CHANCE_TIMES)
    return max(FEWEST_IMAGES, min(MOST_IMAGES, int(seconds / each) - by_chance))


def measure_speed(recipe: Recipe, runtime: Runtime, preset: str) -> Speed:
    """Times a network of the recipe with random images of `TIMED_SIZE` on this machine."""
    accelerator = runtime.accelerator()
    changes = {"diffusion.preset": preset, "diffusion.image_size": TIMED_SIZE}
    settings, channels = recipe.override(changes).diffusion, len(recipe.mode)
    unet = build_unet(settings, channels).to(accelerator.device)
    shape = (BATCH_SIZE, channels, TIMED_SIZE, TIMED_SIZE)
    images = torch.randn(shape, device=accelerator.device)
    timesteps = torch.arange(BATCH_SIZE, device=accelerator.device)

    def train() -> None:
        with accelerator.autocast():
            output = unet(images, timesteps).sample
        torch.autograd.backward(output.float().square().mean())

    def denoise() -> None:
        with torch.no_grad(), accelerator.autocast():
            unet(images, timesteps)

    return Speed(
        _seconds(train, accelerator.device), _seconds(denoise, accelerator.device) / BATCH_SIZE
    )


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """Returns the median duration, after one that does not count."""
    durations = []
    for _ in range(TIMED_STEPS + 1):
        started = time.monotonic()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.monotonic() - started)
    return sorted(durations[1:])[TIMED_STEPS // 2]
