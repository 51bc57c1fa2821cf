"""Fits RealNet to the normal images of a category and the synthetic ones of a corpus.

    OUT/
        recipe.yaml
        <category>/                 the model (config, weights), fit.json, the images that it learnt
                                    from, learnt.json, and what normal ones look like to it,
                                    normal.json; `_joint` for all
        checkpoints/<category>/     what a resumed fit needs; see sia_gen.train.checkpoints
        logs/<category>/            losses and validation figures; see sia_gen.train.logs

The best weights and the threshold come from normal images held out, with synthetic anomalies;
no test image is read unless the recipe selects on them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils import get_total_norm

from sia_gen.anomalies.paste import AnomalyBatch, AnomalyBatches
from sia_gen.anomalies.sources import Parts, open_sources
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.images.by_number import Images
from sia_gen.images.ground_truth import check_masks
from sia_gen.images.layouts import TestImage
from sia_gen.images.learnt import Learnt
from sia_gen.images.listing import (
    CategoryImages,
    list_images,
    list_labelled_images,
    require_readable,
)
from sia_gen.images.photographs import read_headers
from sia_gen.io.files import Location
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.realnet.inference import MODEL_VERSION, REPORT
from sia_gen.realnet.model import RealNet, RealNetObjective, forward_flops
from sia_gen.realnet.normal import NORMAL, NormalImages
from sia_gen.realnet.preparation import (
    FitData,
    adam,
    describe_inputs,
    fit_data,
    image_batches,
    initialise,
    lay_out_moments,
    load_normal,
)
from sia_gen.realnet.selection import (
    SELECTED_ON,
    Best,
    look_at_normal,
    measure_places,
    threshold_for,
    validate,
    validate_on_test,
)
from sia_gen.runtime.device import NOTICE, Execution, Runtime, compile_network
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, load_batches
from sia_gen.train.checkpoints import (
    images_as_begun,
    last_checkpoint,
    load_last,
    save_checkpoint,
)
from sia_gen.train.logs import TrainingLog, TrainingWatch
from sia_gen.train.loop import Budget, model_groups, save_model, set_learning_rate, train_models


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

    Wrong recipes, images, corpora, weights and output folders are refused before anything is
    written.
    """
    settings = recipe.realnet
    groups = model_groups(recipe, categories, joint=settings.joint)
    execution = _execution(settings, runtime)
    sources = {category: open_sources(recipe, category, corpus) for category in categories}
    listed = {}
    for name, group in groups.items():
        found = images_as_begun(
            out / "checkpoints" / name,
            [list_images(recipe, root, category) for category in group],
            root,
            resume=resume,
        )
        listed[name] = dict(zip(group, found, strict=True))
    tests = {}
    if settings.select_on == "test":
        tests = {
            category: _unlearnt_tests(recipe, root, category, images)
            for group in listed.values()
            for category, images in group.items()
        }
    inputs = {name: describe_inputs(recipe, images, sources) for name, images in listed.items()}
    later = list(groups)[1:]
    require_readable(recipe, [images for name in later for images in listed[name].values()])

    def fit(name: str, normal: dict[str, Parts[Images]], accelerator: Accelerator) -> None:
        data = fit_data(recipe, normal, [sources[category] for category in groups[name]])
        chosen = [test for category in groups[name] for test in tests.get(category, [])]
        paths = [path for one in listed[name].values() for path in (*one.fit, *one.validation)]
        unreadable = sum(len(images.unreadable) for images in listed[name].values())
        facts = inputs[name] | {"unreadable": unreadable}
        with explained_out_of_memory(
            f"out of memory with 'realnet.batch_size' {settings.batch_size} at "
            f"{settings.image_size} pixels.",
            "Lower it in the recipe, and choose another folder with --out.",
        ):
            works = len(groups) - list(groups).index(name)
            Fit(name, recipe, data, paths, chosen, out, execution, facts, accelerator, works).run()

    train_models(
        recipe,
        inputs,
        lambda name: load_normal(recipe, listed[name]),
        fit,
        lambda name: Learnt.of(listed[name].values(), root),
        sections=["realnet", "foreground"],
        out=out,
        runtime=runtime,
        resume=resume,
    )


def _unlearnt_tests(
    recipe: Recipe, root: Path, category: str, learnt: CategoryImages
) -> list[TestImage]:
    """Returns test images with usable masks, without those that were learnt.

    The split may have changed since the fit began.
    """
    tests = list_labelled_images(recipe, root, category)
    check_masks(tests, category)
    known = {*learnt.fit, *learnt.validation}
    return [test for test in tests if test.path not in known]


def _execution(settings: RealNetFit, runtime: Runtime) -> Execution:
    """Decides how the networks of a fit are executed; `UserError` if they cannot be made."""
    device = runtime.accelerator().device
    model, samples = RealNet.of(settings), settings.batch_size * settings.max_steps
    # The backward pass takes twice the operations of the forward pass.
    compiled = runtime.compiles(device, lambda: 3 * samples * forward_flops(model))
    return Execution(compiled, channels_last=runtime.detector_channels_last)


@dataclass
class Fit:
    """The fit of one model: what it is given, and its state once it is prepared."""

    name: str  # its category, or `_joint`
    recipe: Recipe
    data: FitData
    paths: Sequence[Path]  # of the normal images
    tests: Sequence[TestImage]  # they select the best weights if the recipe says so
    out: Path  # of all models
    execution: Execution
    facts: Mapping[str, Any]  # about the data, for the report
    accelerator: Accelerator
    works: int = 1  # number of models that remain, this one included
    best: Best = field(default_factory=Best)
    model: RealNet = field(init=False)
    objective: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints" / self.name

    def run(self) -> None:
        """Fits the model, from the last checkpoint on, and saves it with a report."""
        settings, compiled, name = self.recipe.realnet, self.execution.compiled, self.name
        budget = Budget(settings.max_minutes, self.accelerator)
        start = done = self._prepare()
        visible, note = self.accelerator.is_main_process, ""
        watch = TrainingWatch(name, self.checkpoints, "realnet.learning_rate", self.accelerator)
        log = TrainingLog(self.out / "logs" / name if visible else None, start)
        progress = Progress(
            f"{name}: fitting RealNet",
            settings.max_steps,
            done=start,
            visible=visible,
            limit=budget.seconds,
            works=self.works,
        )
        with log, progress:
            if compiled:
                progress.say(f"{name}: {NOTICE}")
            self.objective.train()
            budget.begin(start)
            for batch in self._load_batches(start):
                rate = set_learning_rate(self.optimizer, settings, done)
                norm, reconstruction, segmentation = self._step(batch)
                watch.add(norm, reconstruction=reconstruction, segmentation=segmentation)
                done += 1
                if compiled and done == start + 1:
                    # The minutes are for learning, not for the compiler.
                    budget.exclude(done)
                last = done == settings.max_steps
                saves = last or done % settings.validate_every == 0 or budget.is_up(done)
                if saves or watch.is_due(done):
                    losses = watch.report(done, log, rate).values()
                    note = f"loss {' + '.join(f'{loss:.3f}' for loss in losses)}"
                progress.advance(note=note)
                if saves:
                    with budget.measured():
                        self._validate(done, log)
                        save_checkpoint(self.accelerator, self.checkpoints, done)
                    if last or budget.is_up(done):
                        break
        if compiled:
            # A CUDA graph keeps the memory of a step to itself.
            torch.compiler.reset()
        if self.accelerator.is_main_process:
            self.save(done)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def _prepare(self) -> int:
        """Makes the networks as the last checkpoint has them; returns the number of steps done."""
        settings, execution, accelerator = self.recipe.realnet, self.execution, self.accelerator
        set_seed(self.recipe.seed, device_specific=True)
        self.model = RealNet.of(settings).to(accelerator.device)
        if execution.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if last_checkpoint(self.checkpoints) is None:
            initialise(self.model, self.data.fit, self.recipe, self.name, accelerator)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = adam(trained, settings.learning_rate, compiled=execution.compiled)
        objective = RealNetObjective(self.model)
        self.objective, self.optimizer = accelerator.prepare(objective, optimizer)
        if execution.compiled:
            # Several processes exchange gradients in the middle of what a graph would replay.
            graphs = accelerator.num_processes == 1
            compile_network(self.objective, channels_last=execution.channels_last, graphs=graphs)
        accelerator.register_for_checkpointing(self.best)
        start = load_last(accelerator, self.checkpoints)
        lay_out_moments(self.optimizer)
        return start

    def _load_batches(self, start: int) -> Iterator[AnomalyBatch]:
        settings, rank = self.recipe.realnet, self.accelerator.process_index
        count, processes = len(self.data.fit.normal), self.accelerator.num_processes
        order = BatchOrder(self.recipe.seed, count, settings.batch_size, rank, processes)
        batches = AnomalyBatches(self.data.fit, order)
        return load_batches(batches, start, settings.max_steps, self.accelerator)

    def _step(self, batch: AnomalyBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Does a step; returns the gradient norm and the two losses, scalars on the device."""
        reconstruction, segmentation = self.objective(*batch)
        self.accelerator.backward(reconstruction + segmentation)
        self.accelerator.unscale_gradients()
        parameters = self.model.parameters()
        norm = get_total_norm([one.grad for one in parameters if one.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm, reconstruction, segmentation

    def _validate(self, done: int, log: TrainingLog) -> None:
        """Keeps the weights if they are the best so far, and logs their metrics."""
        self._measure_normal()
        if self.recipe.realnet.select_on == "test":
            metrics = validate_on_test(self.recipe, self.tests, self.model, self.accelerator)
        else:
            metrics = validate(self.data, self.model, self.accelerator)
        self.best.update(done, self.model, metrics)
        log.write(done, {f"validation/{name}": value for name, value in metrics.items()})

    def _measure_normal(self) -> None:
        """Tells a model that retrieves patches how its maps of normal images are."""
        if self.model.memory is not None:
            settings, device = self.recipe.realnet, self.accelerator.device
            part = self.data.validation if self.data.validation.normal else self.data.fit
            self.model.eval()
            with self.accelerator.autocast():
                batches = image_batches(part.normal, settings.batch_size, device)
                self.model.measure_normal(batches, part.areas)
            measure_places(self.data.fit, self.model, self.accelerator)
            self.model.train()

    def save(self, done: int) -> None:
        """Saves the best weights with a report, whole or not at all."""
        best = self.best
        threshold: dict[str, Any] = {"threshold": best.metrics["threshold"]}
        self.model.load_state_dict(best.weights)
        looks = look_at_normal(self.data, self.model, self.accelerator)
        normal = NormalImages.of(looks, read_headers(self.paths))
        if self.recipe.realnet.false_alarm_rate is not None:
            found = threshold_for(normal.scores, self.recipe.realnet.false_alarm_rate)
            threshold = {"threshold": found.threshold, "false_alarms": asdict(found)}
        report = {
            "model_version": MODEL_VERSION,
            "categories": self.recipe.categories if self.name == JOINT else [self.name],
            "steps": done,
            **self.facts,
            **asdict(self.execution),
            "best_step": best.step,
            "selected_on": SELECTED_ON[self.recipe.realnet.select_on],
            "validation": best.metrics,
            **threshold,
            "seed": self.recipe.seed,
        }
        folder = self.out / self.name
        beside = {NORMAL: normal.model_dump(mode="json")}
        save_model(folder, self.model, self.recipe, REPORT, report, self.checkpoints, beside)
