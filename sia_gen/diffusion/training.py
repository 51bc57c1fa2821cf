"""Trains a DDPM on normal images and saves it as an SDAS pipeline.

OUT/
    recipe.yaml
    <category>/                 the pipeline with the EMA weights, and training.json
    _joint/                     in its place, if one class-conditional model learns all categories
    checkpoints/<category>/     what it takes to go on; see sia_gen.train.checkpoints
    logs/<category>/            see sia_gen.train.logs
    previews/<category>/        step-XXXXXXXX.png; see sia_gen.diffusion.preview
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.utils import release_memory, set_seed

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.dataset import (
    DiffusionImages,
    NoiseBatch,
    NoiseBatches,
    load_diffusion_images,
)
from sia_gen.diffusion.initial import Training, planned_network, report_memory, start_training
from sia_gen.diffusion.loss import DiffusionSchedule, denoising_loss
from sia_gen.diffusion.memory import out_of_memory
from sia_gen.diffusion.preview import COLUMNS
from sia_gen.diffusion.preview_plan import PreviewPlan
from sia_gen.diffusion.saving import TrainedModel, is_finished
from sia_gen.errors import OptionError
from sia_gen.images.listing import (
    CategoryImages,
    describe_photographs,
    list_images,
    require_readable,
)
from sia_gen.io.locks import EVERYTHING
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, load_batches
from sia_gen.train.budget import Budget
from sia_gen.train.checkpoints import begin_checkpoints, check_inputs, load_last, save_checkpoint
from sia_gen.train.divergence import NORM, TrainingWatch
from sia_gen.train.logs import TrainingLog
from sia_gen.train.loop import learning_rate


def train_diffusion(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    out: Path,
    runtime: Runtime,
    *,
    resume: bool = True,
) -> None:
    """Trains one model per category, one after another, or one of all of them.

    Args:
        recipe: Names the data, the network and the budget.
        categories: Those to train; all of the recipe's if the model is a joint one.
        root: Folder of the images.
        out: Output folder, see above.
        runtime: Device and precision.
        resume: Whether to go on from the last checkpoint; otherwise training starts again.

    Raises:
        UserError: If the recipe, the images or the output folder do not allow it; nothing has
            been written then. Also if the loss diverges or memory runs out; the last checkpoint
            is whole then.
    """
    joint = recipe.diffusion.joint
    if joint and list(categories) != recipe.categories:
        raise OptionError(
            problem="a joint model learns all categories of its recipe.",
            fix="Leave --category out, or take them out of the recipe.",
        )
    num_classes = len(categories) if joint else None
    accelerator = runtime.accelerator()
    network = planned_network(recipe, num_classes)
    groups = {JOINT: list(categories)} if joint else {name: [name] for name in categories}
    listed = {category: list_images(recipe, root, category) for category in categories}
    load = partial(load_group, recipe, listed)
    (first, group), *later = groups.items()
    opened = {first: load(group)}
    require_readable(recipe, [listed[category] for _, group in later for category in group])
    inputs = {
        name: {"photographs": describe_photographs([listed[one] for one in group])}
        for name, group in groups.items()
    }
    for name in groups if resume else ():
        check_inputs(out / "checkpoints" / name, inputs[name])
    main = accelerator.is_main_process
    sections = ["diffusion", "categories"] if joint else ["diffusion"]
    with claim_output(out, recipe, sections, dict.fromkeys(groups, EVERYTHING), main=main):
        if main:
            report_memory(network, recipe.diffusion, accelerator)
        accelerator.wait_for_everyone()
        for name, group in groups.items():
            # An accelerator of its own: what is registered for checkpoints cannot be taken back.
            accelerator = runtime.accelerator()
            with explained_out_of_memory(*out_of_memory(recipe.diffusion)):
                if accelerator.is_main_process:
                    begin_checkpoints(out / "checkpoints" / name, inputs[name], resume=resume)
                # Without a name here, so that they make room for those of the next model.
                train_model(
                    recipe,
                    name,
                    group,
                    opened.pop(name) if name in opened else load(group),
                    out,
                    accelerator,
                )
            # In mixed precision a network refers to itself: only the collector frees it.
            release_memory()


def load_group(
    recipe: Recipe, listed: Mapping[str, CategoryImages], categories: Sequence[str]
) -> DiffusionImages:
    """The images of one model, of some of the categories that were listed."""
    return load_diffusion_images(recipe, [listed[category] for category in categories])


def train_model(
    recipe: Recipe,
    name: str,
    categories: Sequence[str],
    images: DiffusionImages,
    out: Path,
    accelerator: Accelerator,
) -> None:
    """Trains one model, from the last checkpoint on, and saves it as `out/name`."""
    settings = recipe.diffusion
    budget = Budget(settings.max_minutes, accelerator)
    checkpoints = out / "checkpoints" / name
    accelerator.wait_for_everyone()

    set_seed(recipe.seed, device_specific=True)
    num_classes = len(categories) if settings.joint else None
    training = start_training(recipe, num_classes, accelerator)
    unet, optimizer = training.unet, training.optimizer
    plan = PreviewPlan(budget, min(COLUMNS, len(images.held_out)))
    model = TrainedModel(training, recipe, name, categories, images, out, plan)
    start = load_last(accelerator, checkpoints, kept=settings.checkpoints_kept)
    # Accelerate brings what is registered with it back to the CPU.
    training.ema.to(device=accelerator.device)
    if start == settings.max_steps and is_finished(out / name, start):
        return

    schedule = DiffusionSchedule(training.scheduler.betas, accelerator.device)
    passes = settings.gradient_accumulation
    batches = load_batches(
        noise_batches(recipe, images, training, accelerator),
        start * passes,
        settings.max_steps * passes,
        accelerator,
    )
    visible = accelerator.is_main_process
    log = TrainingLog(out / "logs" / name if visible else None, start)
    watch = TrainingWatch(name, checkpoints, "diffusion.learning_rate", accelerator)
    done, note = start, ""
    title = f"{name}: training the diffusion model"
    with log, Progress(title, settings.max_steps, done=start, visible=visible) as progress:
        plan_previews(model, progress, accelerator)
        unet.train()
        budget.begin(start)
        for step in range(start, settings.max_steps):
            rate = learning_rate(settings, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = add_gradients(training, batches, schedule, settings, accelerator)
            norm = accelerator.clip_grad_norm_(unet.parameters(), settings.gradient_clip)
            watch.add(norm, loss=loss)
            optimizer.step()
            optimizer.zero_grad()
            training.ema.step(unet.parameters())
            done = step + 1
            last = done == settings.max_steps
            saves = last or done % settings.checkpoint_every == 0 or budget.is_up(done)
            shows = done % settings.preview_every == 0 and not last
            if saves or shows or watch.is_due(done):
                recent = watch.look(done)
                mean = fmean(figures["loss"] for figures in recent)
                gradient_norm = recent[-1][NORM]
                log.write(done, {"loss": mean, NORM: gradient_norm, "learning_rate": rate})
                note = f"loss {mean:.4f}"
            progress.advance(note=note)
            # Before the checkpoint, from which a run that is broken off goes on.
            if shows:
                model.preview(done, log, progress, accelerator)
            if saves:
                with budget.measured():
                    save_checkpoint(accelerator, checkpoints, done, kept=settings.checkpoints_kept)
                if last or budget.is_up(done):
                    break
        readiness = model.preview(done, log, progress, accelerator, last=True)
        if readiness is None:
            progress.say(
                f"{name}: --max-minutes leaves no time for the last preview: the model is saved, "
                "how ready it is shows the next run with more minutes."
            )
    model.publish(done, readiness, accelerator)
    accelerator.free_memory()


def plan_previews(model: TrainedModel, progress: Progress, accelerator: Accelerator) -> None:
    """Makes the previews of a run with little time smaller, and says so."""
    plan, unet = model.plan, accelerator.unwrap_model(model.training.unet).eval()
    most = plan.columns
    if accelerator.is_main_process and model.recipe.diffusion.max_minutes is not None:
        plan.estimate(unet, model.recipe.synthesis.steps)
    if 0 < plan.columns < most:
        progress.say(
            f"{model.name}: previews have {plan.columns} columns instead of {most}, to take no "
            "more than a quarter of --max-minutes"
        )


def add_gradients(
    training: Training,
    batches: Iterator[NoiseBatch],
    schedule: DiffusionSchedule,
    settings: Diffusion,
    accelerator: Accelerator,
) -> torch.Tensor:
    """Computes the gradients of a step, in all of its passes.

    Returns:
        The mean loss, a scalar on the device.
    """
    unet, passes, losses = training.unet, settings.gradient_accumulation, []
    for number in range(passes):
        batch = next(batches).to(accelerator.device)
        noisy = training.scheduler.add_noise(batch.images, batch.noise, batch.timesteps)
        # Gradients are exchanged once per step, with the last pass.
        with nullcontext() if number == passes - 1 else accelerator.no_sync(unet):
            classes = batch.labels if settings.joint else None
            output = unet(noisy, batch.timesteps, class_labels=classes).sample.float()
            loss = denoising_loss(
                output, batch.images, noisy, batch.noise, batch.timesteps, schedule
            )
            accelerator.backward(loss / passes)
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def noise_batches(
    recipe: Recipe, images: DiffusionImages, training: Training, accelerator: Accelerator
) -> NoiseBatches:
    """The batches of this process."""
    settings = recipe.diffusion
    order = BatchOrder(
        recipe.seed,
        len(images.fit),
        settings.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    return NoiseBatches(
        images.fit,
        images.labels,
        order,
        training.scheduler.config.num_train_timesteps,
        horizontal_flip=settings.horizontal_flip,
        vertical_flip=settings.vertical_flip,
    )
