"""Trains the classifier that guides sampling: it tells categories apart in noisy images.

OUT/
    recipe.yaml
    model/          the classifier, and training.json with its categories and accuracy
    checkpoints/    what it takes to go on; see sia_gen.train.checkpoints
    logs/           see sia_gen.train.logs
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn import functional

from sia_gen.config.outputs import RECIPE, claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages, NoiseBatches, load_diffusion_images
from sia_gen.diffusion.memory import prepare_norms
from sia_gen.errors import OptionError, TrainingError
from sia_gen.images.listing import describe_photographs, list_images
from sia_gen.io.files import atomic_folder, write_json
from sia_gen.io.locks import EVERYTHING
from sia_gen.networks.classifier import NoisyClassifier, build_classifier
from sia_gen.runtime.device import Runtime, environment
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import REPORT
from sia_gen.sdas.scheduler import PerturbedDDPMScheduler
from sia_gen.train.batches import BatchOrder, load_batches
from sia_gen.train.checkpoints import begin_checkpoints, check_inputs, load_last, save_checkpoint
from sia_gen.train.divergence import TrainingWatch
from sia_gen.train.logs import TrainingLog
from sia_gen.train.loop import learning_rate_at

NAME = "classifier"
# How noisy the images are that the accuracy is measured on.
TESTED_TIMESTEPS = (0, 250, 500, 750)


def train_classifier(
    recipe: Recipe, root: Path, out: Path, runtime: Runtime, *, resume: bool = True
) -> None:
    """Trains a classifier of all categories of a recipe, on images of the diffusion model's size.

    Args:
        recipe: Names the data, the network and the budget.
        root: Folder of the images.
        out: Output folder, see above.
        runtime: Device and precision.
        resume: Whether to go on from the last checkpoint; otherwise training starts again.

    Raises:
        UserError: If the recipe, the images or the output folder do not allow it; nothing has
            been written then. Also if the loss diverges or memory runs out.
    """
    if len(recipe.categories) < 2:
        raise OptionError(
            problem=f"recipe '{recipe.name}' has a single category: a classifier of it has nothing "
            "to tell apart, its loss is 0 and it cannot guide.",
            fix="Leave guidance out; a model of one category does not need it.",
        )
    accelerator = runtime.accelerator()
    build_classifier(recipe)
    listed = [list_images(recipe, root, category) for category in recipe.categories]
    settings = recipe.diffusion
    inputs = {
        "photographs": describe_photographs(listed),
        "image size": settings.image_size,
        "flips": [settings.horizontal_flip, settings.vertical_flip],
    }
    if resume:
        check_inputs(out / "checkpoints", inputs)
    images = load_diffusion_images(recipe, listed)
    main, parts = accelerator.is_main_process, {NAME: EVERYTHING}
    with claim_output(out, recipe, ["classifier", "categories"], parts, main=main):
        if main:
            begin_checkpoints(out / "checkpoints", inputs, resume=resume)
        accelerator.wait_for_everyone()
        with explained_out_of_memory(
            f"out of memory with 'classifier.batch_size' {recipe.classifier.batch_size} at "
            f"{recipe.diffusion.image_size} pixels.",
            "Lower it in the recipe, and choose another folder with --out.",
        ):
            train_model(recipe, images, out, accelerator)


def train_model(
    recipe: Recipe, images: DiffusionImages, out: Path, accelerator: Accelerator
) -> None:
    """Trains the classifier, from the last checkpoint on, and saves it."""
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
    batches = noise_batches(recipe, images, accelerator)
    loader = load_batches(
        batches,
        start,
        settings.max_steps,
        accelerator,
    )
    watch = TrainingWatch(NAME, checkpoints, "classifier.learning_rate", accelerator)
    visible, note = accelerator.is_main_process, ""
    with (
        TrainingLog(out / "logs" if visible else None, start) as log,
        Progress("training the classifier", settings.max_steps, done=start, visible=visible) as bar,
    ):
        model.train()
        for step, cpu_batch in enumerate(loader, start):
            for group in optimizer.param_groups:
                # Linear to zero, as in ADM.
                group["lr"] = learning_rate_at(
                    step, settings.learning_rate, settings.max_steps, 0, decay_from=0.0
                )
            batch = cpu_batch.to(accelerator.device)
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
        accuracies = measure_accuracy(model, scheduler, images, accelerator)
        save_classifier(accelerator.unwrap_model(model), recipe, accuracies, out / "model")
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def noise_batches(
    recipe: Recipe, images: DiffusionImages, accelerator: Accelerator
) -> NoiseBatches:
    """The batches of this process."""
    order = BatchOrder(
        recipe.seed,
        len(images.fit),
        recipe.classifier.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    return NoiseBatches(
        images.fit,
        images.labels,
        order,
        PerturbedDDPMScheduler().config.num_train_timesteps,
        horizontal_flip=recipe.diffusion.horizontal_flip,
        vertical_flip=recipe.diffusion.vertical_flip,
    )


@torch.no_grad()
def measure_accuracy(
    model: Any, scheduler: PerturbedDDPMScheduler, images: DiffusionImages, accelerator: Accelerator
) -> dict[str, float]:
    """The share of images kept back that are recognised, by timestep.

    Raises:
        TrainingError: If the last steps have spoilt the classifier.
    """
    model = accelerator.unwrap_model(model).eval()
    accuracies = {}
    for timestep in TESTED_TIMESTEPS:
        correct = 0
        for index, label in enumerate(images.held_out_labels):
            image = torch.from_numpy(images.held_out[index])[None].float() / 127.5 - 1
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
            timesteps = torch.tensor([timestep])
            noisy = scheduler.add_noise(image, noise, timesteps).to(accelerator.device)
            logits = model(noisy, timesteps.to(accelerator.device))
            if bool(logits.isnan().any()):
                raise TrainingError(
                    problem=f"{NAME}: what it says of images is NaN.",
                    fix="Lower 'classifier.learning_rate' and train it again with --no-resume.",
                )
            correct += int(logits.argmax().item() == label)
        accuracies[str(timestep)] = correct / len(images.held_out_labels)
    return accuracies


def save_classifier(
    classifier: NoisyClassifier, recipe: Recipe, accuracies: dict[str, float], folder: Path
) -> None:
    """Saves the classifier with what there is to know about it, whole or not at all."""
    with atomic_folder(folder) as temporary:
        classifier.save_pretrained(temporary)
        (temporary / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        write_json(
            temporary / REPORT,
            {
                "steps": recipe.classifier.max_steps,
                "categories": recipe.categories,
                "accuracy_at_timestep": accuracies,
                "seed": recipe.seed,
                "versions": environment(),
            },
        )
