"""Fits RealNet to the normal images of a category and the synthetic ones of a corpus.

    OUT/
        recipe.yaml
        <category>/                 the model (config, weights) and fit.json
        checkpoints/<category>/     what it takes to go on; see sia_gen.checkpoints

The best weights and the threshold come from normal images kept back, with synthetic anomalies;
no test image is ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from sia_gen.batches import BatchOrder, learning_rate_at, load_batches
from sia_gen.checkpoints import last_checkpoint, remove_checkpoints, save_checkpoint
from sia_gen.files import atomic_folder, write_json
from sia_gen.locations import Location
from sia_gen.outputs import RECIPE, claim_output
from sia_gen.progress import Progress
from sia_gen.realnet.afs import ChannelLosses
from sia_gen.realnet.anomalies import AnomalyBatches, LocalAnomalies
from sia_gen.realnet.backbone import FeatureStatistics
from sia_gen.realnet.data import FitData, fit_data, load_normal
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.objective import RealNetObjective
from sia_gen.realnet.selection import SELECTED_ON, Best, keep_best
from sia_gen.realnet.sources import make_source
from sia_gen.realnet.weights import load_backbone_weights
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime, environment, loader_workers
from sia_gen.settings import RealNetFit

REPORT = "fit.json"


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
    """Fits one model per category, one after another.

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
            allow it; nothing has been written then.
    """
    accelerator = runtime.accelerator()
    model_with_weights(recipe.realnet)
    for category in categories:
        make_source(recipe, category, corpus)
    normal = {category: load_normal(recipe, category, root) for category in categories}
    if accelerator.is_main_process:
        claim_output(out, recipe, ["realnet", "foreground"])
    accelerator.wait_for_everyone()
    for category in categories:
        # An accelerator of its own: what is registered for checkpoints cannot be taken back.
        accelerator = runtime.accelerator()
        data = fit_data(recipe, normal[category], category, corpus)
        fit_category(recipe, category, data, out, accelerator, resume=resume)


def model_with_weights(settings: RealNetFit) -> RealNet:
    """A RealNet with a pretrained backbone, all else random."""
    model = RealNet(
        backbone=settings.backbone,
        image_size=settings.image_size,
        strides=settings.strides,
        channels_kept=settings.channels_kept,
        num_max=settings.num_max,
        num_mean=settings.num_mean,
        rrs=settings.rrs,
        architecture=settings.architecture,
        score_window=settings.score_window,
    )
    load_backbone_weights(model.backbone, settings.backbone, settings.weights)
    return model


def fit_category(
    recipe: Recipe,
    category: str,
    data: FitData,
    out: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
) -> None:
    """Fits and saves the model of one category."""
    settings = recipe.realnet
    checkpoints = out / "checkpoints" / category
    if accelerator.is_main_process and not resume:
        remove_checkpoints(checkpoints)
    accelerator.wait_for_everyone()

    set_seed(recipe.seed, device_specific=True)
    # Channels last is what the convolutions of the backbone are fastest in, on CPU and GPU.
    model = model_with_weights(settings).to(memory_format=torch.channels_last)
    model.to(accelerator.device)
    checkpoint = last_checkpoint(checkpoints)
    if checkpoint is None:
        initialise(model, data.training, recipe, category, accelerator)
    best = Best()
    objective = RealNetObjective(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=settings.learning_rate)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    accelerator.register_for_checkpointing(best)
    start = 0
    if checkpoint is not None:
        path, start = checkpoint
        accelerator.load_state(str(path))

    batches = AnomalyBatches(data.training, batch_order(recipe, data.training, accelerator))
    loader = load_batches(batches, start, settings.max_steps, loader_workers(accelerator))
    title, visible = f"{category}: fitting RealNet", accelerator.is_main_process
    with Progress(title, settings.max_steps, done=start, visible=visible) as progress:
        objective.train()
        for step, batch in enumerate(loader, start):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            moved = batch.to(accelerator.device)
            losses = objective(moved.anomalous, moved.normal, moved.mask)
            accelerator.backward(sum(losses))
            optimizer.step()
            optimizer.zero_grad()
            progress.advance(note=f"loss {losses[0].item():.3f} + {losses[1].item():.3f}")
            if (step + 1) % settings.validate_every == 0 or step + 1 == settings.max_steps:
                keep_best(best, step + 1, model, data.validation, accelerator)
                save_checkpoint(accelerator, checkpoints, step + 1)

    if accelerator.is_main_process:
        save_best(best, model, recipe, category, out / category)
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def initialise(
    model: RealNet,
    anomalies: LocalAnomalies,
    recipe: Recipe,
    category: str,
    accelerator: Accelerator,
) -> None:
    """Standardises the backbone on normal images and chooses the channels by AFS."""
    settings, device = recipe.realnet, accelerator.device
    every_sample = replace(anomalies, anomalous_fraction=1.0)
    # The batches of one process, shared out: however many there are, all choose alike.
    order = BatchOrder(recipe.seed, len(anomalies.normal), settings.batch_size)
    mine = range(accelerator.process_index, settings.afs_batches, accelerator.num_processes)
    loader = load_batches(
        AnomalyBatches(every_sample, order),
        mine.start,
        mine.stop,
        loader_workers(accelerator),
        mine.step,
    )
    title, visible = f"{category}: choosing features", accelerator.is_main_process
    statistics = FeatureStatistics(model.backbone.channels, device)
    losses = ChannelLosses(model.backbone.channels, device)
    with (
        accelerator.autocast(),
        Progress(title, len(mine), visible=visible) as progress,
    ):
        if settings.standardise:
            images = anomalies.normal
            for start in range(0, len(images), settings.batch_size):
                batch = torch.from_numpy(images[start : start + settings.batch_size])
                statistics.update(model.features(batch.to(device).float() / 255))
            model.backbone.standardise(statistics)
        for batch in loader:
            moved = batch.to(device)
            losses.update(model.features(moved.anomalous), model.features(moved.normal), moved.mask)
            progress.advance()
    losses.reduce(accelerator)
    model.afs.select(losses.mean())


def batch_order(recipe: Recipe, anomalies: LocalAnomalies, accelerator: Accelerator) -> BatchOrder:
    """The order of the training images for this process."""
    return BatchOrder(
        recipe.seed,
        len(anomalies.normal),
        recipe.realnet.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )


def learning_rate(settings: RealNetFit, step: int) -> float:
    """The learning rate of a step."""
    return learning_rate_at(
        step,
        settings.learning_rate,
        settings.max_steps,
        settings.warmup_steps,
        settings.decay_from,
    )


def save_best(best: Best, model: RealNet, recipe: Recipe, category: str, folder: Path) -> None:
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
                "category": category,
                "steps": recipe.realnet.max_steps,
                "best_step": best.step,
                "selected_on": SELECTED_ON,
                "validation": best.metrics,
                "threshold": best.metrics["threshold"],
                "seed": recipe.seed,
                "versions": environment(),
            },
        )
