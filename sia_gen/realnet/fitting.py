"""Fits RealNet to the normal images of a category and the synthetic ones of a corpus.

    OUT/
        recipe.yaml
        <category>/                 the model (config, weights) and fit.json; `_joint` of all
        checkpoints/<category>/     what it takes to go on; see sia_gen.train.checkpoints

The best weights and the threshold come from normal images kept back, with synthetic anomalies;
no test image is read unless the recipe selects on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import release_memory, set_seed
from torch.nn.utils import get_total_norm

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies
from sia_gen.anomalies.sources import open_sources
from sia_gen.config.outputs import RECIPE, claim_output
from sia_gen.config.recipe import JOINT, Recipe
from sia_gen.errors import OptionError
from sia_gen.images.listing import list_images, require_readable
from sia_gen.images.test_set import list_test_images
from sia_gen.io.files import atomic_folder, write_json
from sia_gen.io.locations import Location
from sia_gen.io.locks import EVERYTHING
from sia_gen.realnet.dataset import describe_inputs, fit_data, load_normal
from sia_gen.realnet.initial import fit_execution, initialise, model_with_weights
from sia_gen.realnet.loading import MODEL_VERSION, REPORT
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective, adam, lay_out_moments
from sia_gen.realnet.selection import (
    SELECTED_ON,
    Best,
    Validate,
    keep_best,
    validate,
    validate_on_test,
)
from sia_gen.runtime.compilation import NOTICE, Execution, compile_network
from sia_gen.runtime.device import Runtime, environment
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, load_batches
from sia_gen.train.budget import Budget
from sia_gen.train.checkpoints import (
    Inputs,
    begin_checkpoints,
    check_inputs,
    last_checkpoint,
    load_last,
    save_checkpoint,
)
from sia_gen.train.divergence import TrainingWatch
from sia_gen.train.loop import learning_rate


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
    """Fits one model per category, one after another, or one of all of them.

    Args:
        recipe: Names the data, the network and the budget.
        categories: Those to fit.
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
    if settings.joint and list(categories) != recipe.categories:
        raise OptionError(
            problem="a joint model learns all categories of its recipe.",
            fix="Leave --category out, or take them out of the recipe.",
        )
    accelerator = runtime.accelerator()
    execution = fit_execution(settings, runtime, accelerator.device)
    sources = {category: open_sources(recipe, category, corpus) for category in categories}
    tests = {}
    if settings.select_on == "test":
        tests = {category: list_test_images(recipe, root, category) for category in categories}
    groups = {JOINT: list(categories)} if settings.joint else {one: [one] for one in categories}
    listed = {
        name: {member: list_images(recipe, root, member) for member in members}
        for name, members in groups.items()
    }
    (first, images), *later = listed.items()
    opened = {first: load_normal(recipe, images)}
    require_readable(recipe, [one for _, images in later for one in images.values()])
    inputs = {
        name: describe_inputs(recipe, images, {member: sources[member] for member in images})
        for name, images in listed.items()
    }
    for name in groups if resume else ():
        check_inputs(out / "checkpoints" / name, inputs[name])
    parts, main = dict.fromkeys(groups, EVERYTHING), accelerator.is_main_process
    together = ["categories"] if settings.joint else []
    with claim_output(out, recipe, ["realnet", "foreground", *together], parts, main=main):
        accelerator.wait_for_everyone()
        for name, members in groups.items():
            # An accelerator of its own: what is registered for checkpoints cannot be taken back.
            accelerator = runtime.accelerator()
            normal = opened.pop(name) if name in opened else load_normal(recipe, listed[name])
            data = fit_data(recipe, normal, [sources[member] for member in members])
            chosen = [test for member in members for test in tests.get(member, [])]
            look: Validate = partial(validate, data.validation)
            if settings.select_on == "test":
                look = partial(validate_on_test, recipe, chosen)
            unreadable = sum(images.unreadable for images in normal)
            report = {**inputs[name], "unreadable": unreadable, **asdict(execution)}
            with explained_out_of_memory(
                f"out of memory with 'realnet.batch_size' {settings.batch_size} at "
                f"{settings.image_size} pixels.",
                "Lower it in the recipe, and choose another folder with --out.",
            ):
                fit_model(
                    recipe,
                    name,
                    data.training,
                    look,
                    out,
                    accelerator,
                    execution,
                    report,
                    inputs[name],
                    resume=resume,
                )
            # The next model's images take their place.
            del normal, data, look
            # In mixed precision a network refers to itself: only the collector frees it.
            release_memory()


def fit_model(
    recipe: Recipe,
    name: str,
    anomalies: LocalAnomalies,
    look: Validate,
    out: Path,
    accelerator: Accelerator,
    execution: Execution,
    report: dict[str, Any],
    inputs: Inputs,
    *,
    resume: bool,
) -> None:
    """Fits one model, from the last checkpoint on, and saves it as `out/name` with a report."""
    settings = recipe.realnet
    budget = Budget(settings.max_minutes, accelerator)
    checkpoints = out / "checkpoints" / name
    if accelerator.is_main_process:
        begin_checkpoints(checkpoints, inputs, resume=resume)
    accelerator.wait_for_everyone()

    set_seed(recipe.seed, device_specific=True)
    model = model_with_weights(settings).to(accelerator.device)
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)
    if last_checkpoint(checkpoints) is None:
        initialise(model, anomalies, recipe, name, accelerator)
    best = Best()
    objective = RealNetObjective(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adam(trained, settings.learning_rate, compiled=execution.compiled)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    if execution.compiled:
        # Several processes exchange gradients while the graph would run.
        compile_network(
            objective,
            channels_last=execution.channels_last,
            graphs=accelerator.num_processes == 1,
        )
    accelerator.register_for_checkpointing(best)
    start = load_last(accelerator, checkpoints)
    lay_out_moments(optimizer)
    batches = AnomalyBatches(anomalies, batch_order(recipe, anomalies, accelerator))
    loader = load_batches(
        batches,
        start,
        settings.max_steps,
        accelerator,
    )
    watch = TrainingWatch(name, checkpoints, "realnet.learning_rate", accelerator)
    title, visible = f"{name}: fitting RealNet", accelerator.is_main_process
    done, note = start, ""
    with Progress(title, settings.max_steps, done=start, visible=visible) as progress:
        if execution.compiled:
            progress.say(f"{name}: {NOTICE}")
        objective.train()
        budget.begin(start)
        for step, batch in enumerate(loader, start):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            moved = batch.to(accelerator.device)
            reconstruction, segmentation = objective(moved.anomalous, moved.normal, moved.mask)
            accelerator.backward(reconstruction + segmentation)
            accelerator.unscale_gradients()
            norm = get_total_norm([one.grad for one in trained if one.grad is not None])
            watch.add(norm, reconstruction=reconstruction, segmentation=segmentation)
            optimizer.step()
            optimizer.zero_grad()
            done = step + 1
            if execution.compiled and step == start:
                # The minutes are for learning, not for the compiler.
                budget.exclude(done)
            last = done == settings.max_steps
            saves = last or done % settings.validate_every == 0 or budget.is_up(done)
            if saves or watch.is_due(done):
                figures = watch.look(done)[-1]
                note = f"loss {figures['reconstruction']:.3f} + {figures['segmentation']:.3f}"
            progress.advance(note=note)
            if saves:
                with budget.measured():
                    keep_best(best, done, model, look(model, accelerator))
                    save_checkpoint(accelerator, checkpoints, done)
                if last or budget.is_up(done):
                    break

    if execution.compiled:
        # A graph keeps the memory of a step for itself.
        torch.compiler.reset()
    if accelerator.is_main_process:
        save_best(best, model, recipe, name, {"steps": done, **report}, out / name)
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def batch_order(recipe: Recipe, anomalies: LocalAnomalies, accelerator: Accelerator) -> BatchOrder:
    """The order of the training images for this process."""
    return BatchOrder(
        recipe.seed,
        len(anomalies.normal),
        recipe.realnet.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )


def save_best(
    best: Best, model: RealNet, recipe: Recipe, name: str, report: dict[str, Any], folder: Path
) -> None:
    """Saves the best weights with what there is to know about them, whole or not at all."""
    if best.weights is None or best.metrics is None:
        msg = "the checkpoint holds no validated weights"
        raise RuntimeError(msg)
    model.load_state_dict(best.weights)
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        (temporary / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        write_json(
            temporary / REPORT,
            {
                "model_version": MODEL_VERSION,
                "categories": recipe.categories if name == JOINT else [name],
                **report,
                "best_step": best.step,
                "selected_on": SELECTED_ON[recipe.realnet.select_on],
                "validation": best.metrics,
                "threshold": best.metrics["threshold"],
                "seed": recipe.seed,
                "versions": environment(),
            },
        )
