"""What trainings of several models have in common: their order, and the learning rate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import release_memory

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.config.settings import Training
from sia_gen.errors import OptionError
from sia_gen.io.locks import EVERYTHING
from sia_gen.runtime.device import Runtime
from sia_gen.train.checkpoints import Inputs, begin_checkpoints, check_inputs

Images = TypeVar("Images")


def model_groups(recipe: Recipe, categories: Sequence[str], *, joint: bool) -> dict[str, list[str]]:
    """Returns the categories that each model learns, by the name of the model.

    Raises:
        OptionError: If a joint model would learn only some categories of its recipe.
    """
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
        train: Trains a model with its images.
        sections: Fields of the recipe that the result depends on.
        out: Output folder; the checkpoints are in `checkpoints/<model>`.

    Raises:
        UserError: If `out` cannot be used, or whatever the two functions raise.
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
                begin_checkpoints(out / "checkpoints" / name, inputs[name], resume=resume)
            accelerator.wait_for_everyone()
            # No variable keeps the images, so they make room for those of the next model.
            train(name, opened.pop(name) if name in opened else open_images(name), accelerator)
            # In mixed precision a network refers to itself, so only the collector frees it.
            release_memory()


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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameters of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate
