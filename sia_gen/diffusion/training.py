"""Trains a DDPM on normal images and saves it as an SDAS pipeline.

OUT/
    recipe.yaml
    <category>/                 the pipeline with the EMA weights, training.json, and the images
                                that it learnt from, learnt.json
    _joint/                     in its place, if one class-conditional model learns all categories
    checkpoints/<category>/     see sia_gen.train.checkpoints
    logs/<category>/            see sia_gen.train.logs
    previews/<category>/        step-XXXXXXXX.png; see sia_gen.diffusion.preview
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages, NoiseBatch, noise_batches
from sia_gen.diffusion.loss import DiffusionSchedule, denoising_loss
from sia_gen.diffusion.memory import out_of_memory, report_memory
from sia_gen.diffusion.preview import Previews
from sia_gen.diffusion.state import TrainingState, is_finished, planned_network
from sia_gen.images.learnt import Learnt
from sia_gen.images.listing import describe_photographs, list_images, require_readable
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import load_batches
from sia_gen.train.checkpoints import images_as_begun, load_last, save_checkpoint
from sia_gen.train.logs import TrainingLog, TrainingWatch
from sia_gen.train.loop import Budget, model_groups, set_learning_rate, train_models


def train_diffusion(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    out: Path,
    runtime: Runtime,
    *,
    resume: bool = True,
) -> None:
    """Trains one model per category, one after another, or one of all categories.

    Without `resume`, training starts again. Where the recipe, the images or the output folder do
    not allow it, nothing is written.
    """
    settings = recipe.diffusion
    groups = model_groups(recipe, categories, joint=settings.joint)
    # Processes meet before one of them may fail or take long to read its images.
    runtime.accelerator()
    network = planned_network(recipe)
    listed = {
        name: images_as_begun(
            out / "checkpoints" / name,
            [list_images(recipe, root, category) for category in group],
            root,
            resume=resume,
        )
        for name, group in groups.items()
    }
    first, *later = listed
    require_readable(recipe, [images for name in later for images in listed[name]])

    def train(name: str, images: DiffusionImages, accelerator: Accelerator) -> None:
        if name == first and accelerator.is_main_process:
            report_memory(network, settings, accelerator)
        with explained_out_of_memory(*out_of_memory(settings)):
            works = len(groups) - list(groups).index(name)
            train_model(recipe, name, images, out, accelerator, works=works)

    train_models(
        recipe,
        {name: {"photographs": describe_photographs(images)} for name, images in listed.items()},
        lambda name: DiffusionImages.of(recipe, listed[name]),
        train,
        lambda name: Learnt.of(listed[name], root),
        sections=["diffusion"],
        out=out,
        runtime=runtime,
        resume=resume,
    )


def train_model(
    recipe: Recipe,
    name: str,
    images: DiffusionImages,
    out: Path,
    accelerator: Accelerator,
    *,
    works: int = 1,
) -> None:
    """Trains one model, from the last checkpoint on, and saves it as `out/name`.

    `works` is the number of models that remain, this one included.
    """
    settings = recipe.diffusion
    budget = Budget(settings.max_minutes, accelerator)
    set_seed(recipe.seed, device_specific=True)
    state = TrainingState(recipe, name, images, out, accelerator)
    start = load_last(accelerator, out / "checkpoints" / name, kept=settings.checkpoints_kept)
    # Accelerate moves registered objects back to the CPU.
    state.ema.to(device=accelerator.device)
    if start == settings.max_steps and is_finished(out / name, start):
        return
    visible = accelerator.is_main_process
    log = TrainingLog(out / "logs" / name if visible else None, start)
    progress = Progress(
        f"{name}: training the diffusion model",
        settings.max_steps,
        done=start,
        visible=visible,
        limit=budget.seconds,
        works=works,
    )
    with log, progress:
        previews = Previews(state, budget, log, progress)
        done = _take_steps(state, start, previews)
        readiness = previews.show(done, last=True)
        if readiness is None:
            progress.say(
                f"{name}: --max-minutes leaves no time for the last preview; the model is saved, "
                "and the next run with more minutes shows how ready it is."
            )
    state.save(done, readiness)
    accelerator.free_memory()


def _take_steps(state: TrainingState, start: int, previews: Previews) -> int:
    """Takes steps from `start` on until the last one or the time limit; returns their number."""
    settings, accelerator, budget = state.recipe.diffusion, state.accelerator, previews.budget
    unet, optimizer = state.unet, state.optimizer
    checkpoints = state.out / "checkpoints" / state.name
    passes, size = settings.gradient_accumulation, settings.batch_size
    num_timesteps = state.scheduler.config.num_train_timesteps
    numbered = noise_batches(state.recipe, state.images, size, num_timesteps, accelerator)
    batches = load_batches(numbered, start * passes, settings.max_steps * passes, accelerator)
    schedule = DiffusionSchedule(state.scheduler.betas, accelerator.device)
    watch = TrainingWatch(state.name, checkpoints, "diffusion.learning_rate", accelerator)
    done, note = start, ""
    unet.train()
    budget.begin(start)
    for step in range(start, settings.max_steps):
        rate = set_learning_rate(optimizer, settings, step)
        loss = _add_gradients(state, batches, schedule)
        norm = accelerator.clip_grad_norm_(unet.parameters(), settings.gradient_clip)
        watch.add(norm, loss=loss)
        optimizer.step()
        optimizer.zero_grad()
        state.ema.step(unet.parameters())
        done = step + 1
        last = done == settings.max_steps
        saves = last or done % settings.checkpoint_every == 0 or budget.is_up(done)
        shows = done % settings.preview_every == 0 and not last
        if saves or shows or watch.is_due(done):
            note = f"loss {watch.report(done, previews.log, rate)['loss']:.4f}"
        previews.progress.advance(note=note)
        # The preview comes before the checkpoint, from which an interrupted run resumes.
        if shows:
            previews.show(done)
        if saves:
            with budget.measured():
                save_checkpoint(accelerator, checkpoints, done, kept=settings.checkpoints_kept)
            if last or budget.is_up(done):
                break
    return done


def _add_gradients(
    state: TrainingState, batches: Iterator[NoiseBatch], schedule: DiffusionSchedule
) -> torch.Tensor:
    """Computes the gradients of all passes of a step; returns the mean loss, on the device."""
    settings, accelerator, losses = state.recipe.diffusion, state.accelerator, []
    passes = settings.gradient_accumulation
    for number in range(passes):
        batch = next(batches)
        noisy = state.scheduler.add_noise(batch.images, batch.noise, batch.timesteps)
        # Gradients are exchanged once per step, with the last pass.
        with nullcontext() if number == passes - 1 else accelerator.no_sync(state.unet):
            classes = batch.labels if settings.joint else None
            output = state.unet(noisy, batch.timesteps, class_labels=classes).sample.float()
            loss = denoising_loss(output, noisy, batch, schedule)
            accelerator.backward(loss / passes)
        losses.append(loss.detach())
    return torch.stack(losses).mean()
