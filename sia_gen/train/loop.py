"""What trainings have in common: the order of models, the time limit, and the learning rate."""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, release_memory

from sia_gen.config.outputs import RECIPE, claim_output
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.config.settings import Training
from sia_gen.errors import OptionError
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.io.files import atomic_folder, write_json
from sia_gen.io.locks import EVERYTHING
from sia_gen.runtime.device import Runtime, environment
from sia_gen.train.checkpoints import Inputs, begin_checkpoints, check_inputs
from sia_gen.train.logs import STEPS_BETWEEN_LOOKS

# Reserve for the work after the last step, as a multiple of its last duration, which varies.
_MARGIN = 1.5

Images = TypeVar("Images")


def model_groups(recipe: Recipe, categories: Sequence[str], *, joint: bool) -> dict[str, list[str]]:
    """Returns the categories that each model learns, by the name of the model."""
    if not joint:
        return {category: [category] for category in categories}
    if list(categories) != recipe.categories:
        raise OptionError(
            problem="a joint model learns all categories of its recipe.",
            fix="Leave --category out, or remove the other categories from the recipe.",
        )
    return {JOINT: list(categories)}


def train_models(
    recipe: Recipe,
    inputs: Mapping[str, Inputs],
    open_images: Callable[[str], Images],
    train: Callable[[str, Images, Accelerator], None],
    learnt: Callable[[str], Learnt],
    *,
    sections: Sequence[str],
    out: Path,
    runtime: Runtime,
    resume: bool,
) -> None:
    """Trains one model after another, each with a new accelerator and its checkpoints begun.

    The images of the first model are opened and the inputs of all models checked before anything
    is written. The caller has checked that the images of the later models are readable.

    Args:
        inputs: Description of what each model learns from, by its name, in the order of training.
        open_images: Opens the images of a model.
        train: Trains a model.
        learnt: Describes the images of a model by their contents.
        sections: Fields of the recipe that the result depends on.
        out: Output folder; the checkpoints are in `checkpoints/<model>`.
    """
    accelerator = runtime.accelerator()
    first = next(iter(inputs))
    opened = {first: open_images(first)}
    for name in inputs if resume else ():
        check_inputs(out / "checkpoints" / name, inputs[name])
    main = accelerator.is_main_process
    fields = [*sections, "categories"] if JOINT in inputs else sections
    with claim_output(out, recipe, fields, dict.fromkeys(inputs, EVERYTHING), main=main):
        accelerator.wait_for_everyone()
        for name in inputs:
            # Objects registered for checkpoints stay registered, so every model needs a new one.
            accelerator = runtime.accelerator()
            if main:
                begin_checkpoints(
                    out / "checkpoints" / name, inputs[name], partial(learnt, name), resume=resume
                )
            accelerator.wait_for_everyone()
            # No variable keeps the images, so they make room for those of the next model.
            train(name, opened.pop(name) if name in opened else open_images(name), accelerator)
            # In mixed precision a network refers to itself, so only the collector frees it.
            release_memory()


def save_model(
    folder: Path,
    network: Any,
    recipe: Recipe,
    file: str,
    report: Mapping[str, Any],
    checkpoints: Path | None = None,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Saves a network, its recipe, and its report in a `file`, as a folder whole or absent.

    What it learnt, which its checkpoints say, is kept with it; an imported one has none. `beside`
    are the contents of further JSON files by their names.
    """
    with atomic_folder(folder) as temporary:
        network.save_pretrained(temporary)
        (temporary / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        if checkpoints is not None:
            shutil.copyfile(checkpoints / LEARNT, temporary / LEARNT)
        for name, content in (beside or {}).items():
            write_json(temporary / name, content)
        write_json(temporary / file, {**report, "versions": environment()})


class Budget:
    """The time limit of a run for one model: until the model is saved, not until its last step.

    It counts from when it is made; `minutes` of None are no limit. Until `measured` has measured
    the work after the last step, half of the time is reserved for it. A training that has used the
    other half saves its model, and goes on with the rest. The first process decides for all.
    """

    def __init__(self, minutes: float | None, accelerator: Accelerator) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.accelerator = accelerator
        # Seconds that validation and saving take, None until `measured`.
        self.end: float | None = None
        # Seconds that the next preview will take, 0 while unknown.
        self.preview = 0.0
        self.started = time.monotonic()
        self.begin(0)

    @property
    def left(self) -> float:
        """Seconds left, negative beyond the limit."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def spare(self) -> float:
        """Seconds left for steps, without those reserved for the work after the last step."""
        if self.end is not None:
            return self.left - _MARGIN * (self.end + self.preview)
        return self.left - (0.0 if math.isinf(self.seconds) else self.seconds / 2)

    @property
    def before_publishing(self) -> float:
        """Seconds left after the last checkpoint, without those that saving the model takes."""
        return self.left - (_MARGIN - 1) * (self.end or 0)

    def begin(self, done: int) -> None:
        """Marks the beginning of the steps, of which an earlier run has done some."""
        # On the monotonic clock; interruptions are added to it.
        self.stepping, self.first = time.monotonic(), done

    def exclude(self, done: int) -> None:
        """Takes the time since the beginning of the steps out of the count, and begins again."""
        self.started += time.monotonic() - self.stepping
        self.begin(done)

    def is_up(self, done: int) -> bool:
        """Returns whether to stop after `done` steps because more would take reserved time."""
        if math.isinf(self.seconds):
            return False
        device, alone = self.accelerator.device, self.accelerator.num_processes == 1
        # Several processes wait for each other to agree, so they do it only now and then.
        if not alone and done % STEPS_BETWEEN_LOOKS:
            return False
        each = (time.monotonic() - self.stepping) / max(1, done - self.first)
        # A GPU has the steps until the next look queued.
        steps = 1 if alone and device.type == "cpu" else STEPS_BETWEEN_LOOKS
        over = self.spare < steps * each
        return over if alone else bool(broadcast(torch.tensor(int(over), device=device)).item())

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measures work that will be repeated after the last step."""
        started = time.monotonic()
        yield
        self.end = time.monotonic() - started
        self.stepping += self.end


def learning_rate(settings: Training, step: int) -> float:
    """Returns the learning rate of the 0-based `step`, above zero for every step of the training.

    It rises linearly, stays constant, and from `decay_from * max_steps` on falls linearly to zero.
    """
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    decay_start = settings.decay_from * settings.max_steps
    decay = 1.0
    if step > decay_start:
        decay = (settings.max_steps - step) / (settings.max_steps - decay_start)
    return settings.learning_rate * warmup * decay


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: Training, step: int) -> float:
    """Sets the learning rate of all parameters of an optimizer for a step, and returns it."""
    rate = learning_rate(settings, step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
