"""Fits RealNet to the normal images of a category and the synthetic ones of a corpus.

    OUT/
        recipe.yaml
        <category>/                 the model (config, weights) and fit.json; `_joint` for all
        checkpoints/<category>/     what a resumed fit needs; see sia_gen.train.checkpoints
        logs/<category>/            losses and validation figures; see sia_gen.train.logs

The best weights and the threshold come from normal images kept back, with synthetic anomalies;
no test image is read unless the recipe selects on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils import get_total_norm

from sia_gen.anomalies.paste import AnomalyBatch, AnomalyBatches
from sia_gen.anomalies.sources import open_sources
from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.images.listing import list_images, require_readable
from sia_gen.images.test_set import TestImage, list_test_images
from sia_gen.io.files import atomic_folder, write_json
from sia_gen.io.locations import Location
from sia_gen.realnet.dataset import FitData, NormalImages, describe_inputs, fit_data, load_normal
from sia_gen.realnet.initial import adam, fit_execution, initialise, lay_out_moments
from sia_gen.realnet.loading import MODEL_VERSION, REPORT
from sia_gen.realnet.model import RealNet, RealNetObjective
from sia_gen.realnet.selection import SELECTED_ON, Best, validate, validate_on_test
from sia_gen.runtime.compilation import NOTICE, Execution, compile_network
from sia_gen.runtime.device import Runtime, environment
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, load_batches
from sia_gen.train.budget import Budget
from sia_gen.train.checkpoints import last_checkpoint, load_last, save_checkpoint
from sia_gen.train.divergence import NORM, TrainingWatch
from sia_gen.train.logs import TrainingLog
from sia_gen.train.loop import learning_rate, model_groups, set_learning_rate, train_models


def fit_realnet(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    corpus: Location,
    out: Path,
    runtime: Runtime,
    *,
    resume: bool = True,
) -> None:
    """Fits one model per category, one after another, or one model of all categories.

    Args:
        recipe: Recipe with the data, the network and the budget.
        categories: Categories to fit.
        root: Folder of the images.
        corpus: Folder or URL of the synthetic images.
        out: Output folder, see above.
        runtime: Device and precision.
        resume: Whether to go on from the last checkpoint; otherwise fitting starts again.

    Raises:
        UserError: If the recipe, the images, the corpus, the weights or the output folder do not
            allow it; nothing has been written then. Also if the loss diverges or memory runs out.
    """
    settings = recipe.realnet
    groups = model_groups(recipe, categories, joint=settings.joint)
    execution = fit_execution(settings, runtime, runtime.accelerator().device)
    sources = {category: open_sources(recipe, category, corpus) for category in categories}
    tests = {}
    if settings.select_on == "test":
        tests = {category: list_test_images(recipe, root, category) for category in categories}
    listed = {
        name: {category: list_images(recipe, root, category) for category in group}
        for name, group in groups.items()
    }
    inputs = {
        name: describe_inputs(recipe, images, {category: sources[category] for category in images})
        for name, images in listed.items()
    }
    later = list(groups)[1:]
    require_readable(recipe, [images for name in later for images in listed[name].values()])

    def open_normal(name: str) -> list[NormalImages]:
        return load_normal(recipe, listed[name])

    def fit(name: str, normal: list[NormalImages], accelerator: Accelerator) -> None:
        task = FitTask(
            name=name,
            recipe=recipe,
            data=fit_data(recipe, normal, [sources[category] for category in groups[name]]),
            tests=[test for category in groups[name] for test in tests.get(category, [])],
            out=out,
            execution=execution,
            facts=inputs[name] | {"unreadable": sum(images.unreadable for images in normal)},
        )
        with explained_out_of_memory(
            f"out of memory with 'realnet.batch_size' {settings.batch_size} at "
            f"{settings.image_size} pixels.",
            "Lower it in the recipe, and choose another folder with --out.",
        ):
            fit_model(task, accelerator)

    train_models(
        recipe,
        inputs,
        open_normal,
        fit,
        sections=["realnet", "foreground"],
        out=out,
        runtime=runtime,
        resume=resume,
    )


@dataclass(frozen=True)
class FitTask:
    """What the fit of one model is given.

    Attributes:
        name: Name of the model: its category, or `_joint`.
        recipe: Recipe of the fit.
        data: Images and anomalies to learn from and to validate on.
        tests: Test images that select the best weights, if the recipe says so.
        out: Output folder of all models.
        execution: Compilation and memory format of the networks.
        facts: Description of the data for the report.
    """

    name: str
    recipe: Recipe
    data: FitData
    tests: Sequence[TestImage]
    out: Path
    execution: Execution
    facts: Mapping[str, Any]

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints" / self.name

    def validate(self, model: RealNet, accelerator: Accelerator) -> dict[str, float]:
        """Returns the metrics that select the best weights."""
        if self.recipe.realnet.select_on == "test":
            return validate_on_test(self.recipe, self.tests, model, accelerator)
        return validate(self.data.validation, model, accelerator)


@dataclass(frozen=True)
class Fit:
    """The state of a fit.

    Attributes:
        model: Model that is fitted.
        objective: Module that computes its losses, prepared by Accelerate.
        optimizer: Optimizer of all weights but those of the backbone.
        best: Best weights so far.
        start: Number of steps that earlier runs have done.
        accelerator: Device, precision and processes.
    """

    model: RealNet
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    best: Best
    start: int
    accelerator: Accelerator

    def step(self, batch: AnomalyBatch) -> dict[str, torch.Tensor]:
        """Does one step; returns the gradient norm and the two losses, scalars on the device."""
        moved = batch.to(self.accelerator.device)
        reconstruction, segmentation = self.objective(moved.anomalous, moved.normal, moved.mask)
        self.accelerator.backward(reconstruction + segmentation)
        self.accelerator.unscale_gradients()
        parameters = self.model.parameters()
        norm = get_total_norm([one.grad for one in parameters if one.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {NORM: norm, "reconstruction": reconstruction, "segmentation": segmentation}


def fit_model(task: FitTask, accelerator: Accelerator) -> None:
    """Fits one model, from the last checkpoint on, and saves it as `out/name` with a report."""
    name, settings, compiled = task.name, task.recipe.realnet, task.execution.compiled
    budget = Budget(settings.max_minutes, accelerator)
    fit = start_fit(task, accelerator)
    batches = AnomalyBatches(task.data.training, _batch_order(task, accelerator))
    visible, done, note = accelerator.is_main_process, fit.start, ""
    watch = TrainingWatch(name, task.checkpoints, "realnet.learning_rate", accelerator)
    log = TrainingLog(task.out / "logs" / name if visible else None, fit.start)
    title = f"{name}: fitting RealNet"
    with log, Progress(title, settings.max_steps, done=done, visible=visible) as progress:
        if compiled:
            progress.say(f"{name}: {NOTICE}")
        fit.objective.train()
        budget.begin(done)
        for batch in load_batches(batches, done, settings.max_steps, accelerator):
            rate = learning_rate(settings, done)
            set_learning_rate(fit.optimizer, rate)
            figures = fit.step(batch)
            watch.add(figures.pop(NORM), **figures)
            done += 1
            if compiled and done == fit.start + 1:
                # The minutes are for learning, not for the compiler.
                budget.exclude(done)
            last = done == settings.max_steps
            saves = last or done % settings.validate_every == 0 or budget.is_up(done)
            if saves or watch.is_due(done):
                note = _log_steps(log, done, watch.look(done), rate)
            progress.advance(note=note)
            if saves:
                with budget.measured():
                    metrics = task.validate(fit.model, accelerator)
                    fit.best.update(done, fit.model, metrics)
                    # Before the checkpoint, because a resumed fit keeps the log up to its step.
                    log.write(done, {f"validation/{key}": one for key, one in metrics.items()})
                    save_checkpoint(accelerator, task.checkpoints, done)
                if last or budget.is_up(done):
                    break
    if compiled:
        # A CUDA graph keeps the memory of a step to itself.
        torch.compiler.reset()
    if accelerator.is_main_process:
        save_best(task, fit, done)
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def start_fit(task: FitTask, accelerator: Accelerator) -> Fit:
    """Prepares the networks and the optimizer, in the state of the last checkpoint if any."""
    settings, execution = task.recipe.realnet, task.execution
    set_seed(task.recipe.seed, device_specific=True)
    model = RealNet.of(settings).to(accelerator.device)
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)
    if last_checkpoint(task.checkpoints) is None:
        initialise(model, task.data.training, task.recipe, task.name, accelerator)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adam(trained, settings.learning_rate, compiled=execution.compiled)
    objective, optimizer = accelerator.prepare(RealNetObjective(model), optimizer)
    if execution.compiled:
        # Several processes exchange gradients in the middle of what a graph would replay.
        graphs = accelerator.num_processes == 1
        compile_network(objective, channels_last=execution.channels_last, graphs=graphs)
    best = Best()
    accelerator.register_for_checkpointing(best)
    start = load_last(accelerator, task.checkpoints)
    lay_out_moments(optimizer)
    return Fit(model, objective, optimizer, best, start, accelerator)


def _batch_order(task: FitTask, accelerator: Accelerator) -> BatchOrder:
    return BatchOrder(
        task.recipe.seed,
        len(task.data.training.normal),
        task.recipe.realnet.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )


def _log_steps(log: TrainingLog, done: int, recent: list[dict[str, float]], rate: float) -> str:
    """Logs the mean losses since the last look; returns the losses of the last step as a note."""
    losses = {
        name: fmean(figures[name] for figures in recent)
        for name in ("reconstruction", "segmentation")
    }
    log.write(done, {**losses, NORM: recent[-1][NORM], "learning_rate": rate})
    return f"loss {recent[-1]['reconstruction']:.3f} + {recent[-1]['segmentation']:.3f}"


def save_best(task: FitTask, fit: Fit, done: int) -> None:
    """Saves the best weights with a report, whole or not at all."""
    best = fit.best
    if best.weights is None or best.metrics is None:
        msg = "the checkpoint holds no validated weights"
        raise RuntimeError(msg)
    fit.model.load_state_dict(best.weights)
    with atomic_folder(task.out / task.name) as temporary:
        fit.model.save_pretrained(temporary)
        (temporary / RECIPE).write_text(task.recipe.to_yaml(), encoding="utf-8")
        report = {
            "model_version": MODEL_VERSION,
            "categories": task.recipe.categories if task.name == JOINT else [task.name],
            "steps": done,
            **task.facts,
            **asdict(task.execution),
            "best_step": best.step,
            "selected_on": SELECTED_ON[task.recipe.realnet.select_on],
            "validation": best.metrics,
            "threshold": best.metrics["threshold"],
            "seed": task.recipe.seed,
            "versions": environment(),
        }
        write_json(temporary / REPORT, report)
