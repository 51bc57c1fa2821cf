"""Trains the classifier that guides sampling: it recognises categories in noisy images.

OUT/
    recipe.yaml
    model/          the classifier, and training.json with its categories and accuracy
    checkpoints/    see sia_gen.train.checkpoints
    logs/           see sia_gen.train.logs
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn import functional

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages, noise_batches
from sia_gen.diffusion.memory import prepare_norms
from sia_gen.errors import OptionError, TrainingError
from sia_gen.images.learnt import Learnt
from sia_gen.images.listing import describe_photographs, list_images
from sia_gen.io.locks import EVERYTHING
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.networks.classifier import NoisyClassifier, build_classifier
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import REPORT
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.train.batches import load_batches
from sia_gen.train.checkpoints import (
    begin_checkpoints,
    check_inputs,
    images_as_begun,
    load_last,
    save_checkpoint,
)
from sia_gen.train.logs import TrainingLog, TrainingWatch
from sia_gen.train.loop import save_model

NAME = "classifier"
# Timesteps, which say how noisy images are, of the accuracy in the report.
TESTED_TIMESTEPS = (0, 250, 500, 750)


def train_classifier(
    recipe: Recipe, root: Path, out: Path, runtime: Runtime, *, resume: bool = True
) -> None:
    """Trains a classifier of all categories of a recipe, on images of the diffusion model's size.

    Where the recipe, the images or the output folder do not allow it, nothing is written.
    """
    if len(recipe.categories) < 2:
        raise OptionError(
            problem=f"recipe '{recipe.name}' has a single category: a classifier has nothing to "
            "distinguish, its loss is 0 and it cannot guide.",
            fix="Leave guidance out; a model of one category does not need it.",
        )
    accelerator = runtime.accelerator()
    build_classifier(recipe)
    settings, checkpoints = recipe.diffusion, out / "checkpoints"
    listed = [list_images(recipe, root, category) for category in recipe.categories]
    listed = images_as_begun(checkpoints, listed, root, resume=resume)
    inputs = {
        "photographs": describe_photographs(listed),
        "image size": settings.image_size,
        "flips": [settings.horizontal_flip, settings.vertical_flip],
    }
    if resume:
        check_inputs(checkpoints, inputs)
    images = DiffusionImages.of(recipe, listed)
    main, parts = accelerator.is_main_process, {NAME: EVERYTHING}
    with claim_output(out, recipe, ["classifier", "categories"], parts, main=main):
        if main:
            begin_checkpoints(checkpoints, inputs, lambda: Learnt.of(listed, root), resume=resume)
        accelerator.wait_for_everyone()
        with explained_out_of_memory(
            f"out of memory with 'classifier.batch_size' {recipe.classifier.batch_size} at "
            f"{settings.image_size} pixels.",
            "Lower it in the recipe, and choose another folder with --out.",
        ):
            _train_model(recipe, images, out, accelerator)


def _train_model(
    recipe: Recipe, images: DiffusionImages, out: Path, accelerator: Accelerator
) -> None:
    settings, checkpoints = recipe.classifier, out / "checkpoints"
    set_seed(recipe.seed, device_specific=True)
    scheduler = PerturbedDDPMScheduler()
    classifier = build_classifier(recipe)
    prepare_norms(classifier, accelerator.device.type, accelerator.mixed_precision)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    model, optimizer = accelerator.prepare(classifier, optimizer)
    start = load_last(accelerator, checkpoints)
    num_timesteps = scheduler.config.num_train_timesteps
    batches = noise_batches(recipe, images, settings.batch_size, num_timesteps, accelerator)
    loader = load_batches(batches, start, settings.max_steps, accelerator)
    watch = TrainingWatch(NAME, checkpoints, "classifier.learning_rate", accelerator)
    visible, note = accelerator.is_main_process, ""
    with (
        TrainingLog(out / "logs" if visible else None, start) as log,
        Progress("training the classifier", settings.max_steps, done=start, visible=visible) as bar,
    ):
        model.train()
        for step, batch in enumerate(loader, start):
            # Linear to zero, as in ADM.
            rate = settings.learning_rate * ((settings.max_steps - step) / settings.max_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            noisy = scheduler.add_noise(batch.images, batch.noise, batch.timesteps)
            logits = model(noisy, batch.timesteps).float()
            loss = functional.cross_entropy(logits, batch.labels)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
            accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
            watch.add(norm, loss=loss, accuracy=accuracy)
            optimizer.step()
            optimizer.zero_grad()
            done = step + 1
            saves = done % settings.checkpoint_every == 0 or done == settings.max_steps
            if saves or watch.is_due(done):
                recent = watch.look(done)
                for number, figures in enumerate(recent, done - len(recent) + 1):
                    log.write(number, figures)
                note = f"loss {recent[-1]['loss']:.4f}"
            bar.advance(note=note)
            if saves:
                save_checkpoint(accelerator, checkpoints, done)
    if accelerator.is_main_process:
        _save_classifier(accelerator.unwrap_model(model).eval(), recipe, images, out)
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def _save_classifier(
    classifier: NoisyClassifier, recipe: Recipe, images: DiffusionImages, out: Path
) -> None:
    report = {
        "steps": recipe.classifier.max_steps,
        "categories": recipe.categories,
        "accuracy_at_timestep": {
            str(timestep): _measure_accuracy(classifier, images, timestep)
            for timestep in TESTED_TIMESTEPS
        },
        "seed": recipe.seed,
    }
    save_model(out / "model", classifier, recipe, REPORT, report, out / "checkpoints")


@torch.no_grad()
def _measure_accuracy(classifier: NoisyClassifier, images: DiffusionImages, timestep: int) -> float:
    """Returns the share of images held out that are recognised with the noise of a timestep."""
    scheduler, timesteps = PerturbedDDPMScheduler(), torch.tensor([timestep])
    correct = 0
    for index, label in enumerate(images.held_out_labels):
        image = torch.from_numpy(images.held_out[index])[None].float() / 127.5 - 1
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        noisy = scheduler.add_noise(image, noise, timesteps).to(classifier.device)
        logits = classifier(noisy, timesteps.to(classifier.device))
        if bool(logits.isnan().any()):
            raise TrainingError(
                problem=f"{NAME}: its logits are NaN.",
                fix="Lower 'classifier.learning_rate' and train it again with --no-resume.",
            )
        correct += int(logits.argmax().item() == label)
    return correct / len(images.held_out_labels)
