"""Training to the number: one step by hand, the moving average, and runs that were interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import training
from sia_gen.diffusion.dataset import DiffusionImages, noise_batches
from sia_gen.diffusion.loss import denoising_loss
from sia_gen.images.listing import list_images
from sia_gen.runtime.device import Runtime
from sia_gen.train.batches import BatchOrder
from tests.diffusion.test_training import equal, weights
from tests.sdas.reference import KEPT

if TYPE_CHECKING:
    from tests.diffusion.conftest import Train

# Each step has a learning rate of its own, which a resumed run must find again.
RATES = {"max_steps": 4, "learning_rate": 1e-3, "warmup_steps": 1, "decay_from": 0.5}


def first_batch(recipe: Recipe, photographs: Path) -> tuple[torch.Tensor, ...]:
    """Images, noise and timesteps of the first two samples, drawn as the recipe's seed says."""
    fit = DiffusionImages.of(recipe, [list_images(recipe, photographs, "disc")]).fit
    order = BatchOrder(recipe.seed, len(fit), batch_size=2)
    samples = []
    for epoch, index in order.positions(0):
        rng = order.rng(epoch, index)
        timestep = rng.integers(1000)
        noise = rng.standard_normal((1, 32, 32), dtype=np.float32)
        samples.append((fit[index] / 127.5 - 1, noise, timestep))
    return tuple(torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))


def gradients_by_hand(folder: Path, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """Of the mean squared error of the noise that a saved network predicts, cut to norm 1."""
    unet = UNet2DModel.from_pretrained(folder / "unet")
    images, noise, timesteps = batch
    kept = torch.from_numpy(KEPT)[timesteps][:, None, None, None]
    noisy = (kept.sqrt() * images + (1 - kept).sqrt() * noise).float()
    (unet(noisy, timesteps).sample - noise).square().mean().backward()
    found = {name: parameter.grad for name, parameter in unet.named_parameters()}
    norm = torch.stack([gradient.square().sum() for gradient in found.values()]).sum().sqrt()
    assert norm > 1
    return {name: gradient / norm for name, gradient in found.items()}


def test_first_step_is_that_of_adam_on_the_error_of_the_noise(
    train: Train, recipe: Recipe, photographs: Path
) -> None:
    start = train("start", max_steps=1, learning_rate=1e-20) / "disc"
    rate = 1e-3
    after = train("step", max_steps=1, learning_rate=rate, init=str(start)) / "disc"
    gradients = gradients_by_hand(start, first_batch(recipe, photographs))
    before, found = weights(start), weights(after)
    for name, gradient in gradients.items():
        expected = before[name] - rate * gradient / (gradient.abs() + 1e-8)
        # Adam takes a full step wherever the sign of the gradient is sure.
        sure = gradient.abs() > 1e-5
        torch.testing.assert_close(found[name][sure], expected[sure], rtol=0, atol=1e-2 * rate)


def test_saved_weights_are_the_moving_average(train: Train) -> None:
    steps = [train(f"{last}", max_steps=last, ema_decay=0.0) for last in (1, 2, 3)]
    averaged = train("averaged", max_steps=3, ema_decay=0.75)
    raw = [weights(out / "disc") for out in steps]
    found = weights(averaged / "disc")
    for name, value in found.items():
        # The average starts from the weights after the first step.
        expected = raw[0][name].double()
        for later in raw[1:]:
            expected = 0.75 * expected + 0.25 * later[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)


def test_longer_training_ends_with_the_weights_of_one_run(train: Train) -> None:
    whole = train("whole", max_steps=5)
    train("parts", max_steps=2)
    parts = train("parts", max_steps=5)
    assert equal(weights(whole / "disc"), weights(parts / "disc"))


def test_minutes_end_a_run_and_the_next_goes_on(train: Train) -> None:
    whole = train("whole", **RATES)
    parts = train("parts", **RATES, max_minutes=1e-6)
    assert json.loads((parts / "disc/training.json").read_text())["steps"] == 1
    train("parts", **RATES)
    assert equal(weights(whole / "disc"), weights(parts / "disc"))


def test_steps_lost_with_a_crash_are_taken_again(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", **RATES)
    passes: list[torch.Tensor] = []

    def crashing(output: torch.Tensor, *rest: Any) -> torch.Tensor:
        passes.append(output)
        if len(passes) == 4:
            raise KeyboardInterrupt
        return denoising_loss(output, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training, "denoising_loss", crashing)
        with pytest.raises(KeyboardInterrupt):
            train("parts", **RATES)
    assert not (whole.with_name("parts") / "disc").exists()
    assert equal(weights(whole / "disc"), weights(train("parts", **RATES) / "disc"))


def test_model_lost_after_its_last_checkpoint_is_saved_again(train: Train) -> None:
    out = train(max_steps=2)
    before = weights(out / "disc")
    shutil.rmtree(out / "disc")
    assert equal(weights(train(max_steps=2) / "disc"), before)


def test_training_goes_on_or_starts_again_as_asked(train: Train) -> None:
    # Steps of another learning rate tell which of the two happened.
    steep = train("steep", max_steps=2, learning_rate=1e-2)
    shutil.copytree(steep, steep.with_name("copy"))
    fresh = weights(train("fresh", max_steps=3) / "disc")
    assert equal(weights(train("steep", max_steps=3, resume=False) / "disc"), fresh)
    assert not equal(weights(train("copy", max_steps=3) / "disc"), fresh)


@pytest.mark.parametrize("axes", [{-1}, {-2}, {-1, -2}, set()], ids=str)
def test_images_are_mirrored_only_as_the_recipe_allows(
    recipe: Recipe, photographs: Path, axes: set[int]
) -> None:
    allowed = {"horizontal_flip": -1 in axes, "vertical_flip": -2 in axes}
    changed = recipe.override({f"diffusion.{name}": value for name, value in allowed.items()})
    images = DiffusionImages.of(changed, [list_images(changed, photographs, "disc")])
    accelerator = Runtime("fp32", "cpu").accelerator()
    batches = noise_batches(changed, images, 2, 1000, accelerator)
    found = [image for number in range(50) for image in batches[number].images]

    fit = torch.from_numpy(images.fit).float() / 127.5 - 1
    for mirrored in ((), (-1,), (-2,), (-1, -2)):
        variants = fit.flip(mirrored)
        seen = sum(bool((variants == image).all(dim=(1, 2, 3)).any()) for image in found)
        # Each variant that is allowed is as frequent as any other.
        expected = len(found) / 2 ** len(axes) if axes >= set(mirrored) else 0
        assert seen == pytest.approx(expected, abs=0.2 * len(found) * (len(axes) > 0))
        assert bool(seen) == bool(expected)
