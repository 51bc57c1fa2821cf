"""What a fit of RealNet starts from: the backbone, and the features that AFS chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies
from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.images.store import Images
from sia_gen.realnet.afs import ChannelLosses
from sia_gen.realnet.backbone import FeatureStatistics, require_features
from sia_gen.realnet.model import RealNet, forward_flops
from sia_gen.realnet.weights import load_backbone_weights
from sia_gen.runtime.compilation import Execution
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, batches_of, load_batches


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


def fit_execution(settings: RealNetFit, runtime: Runtime, device: torch.device) -> Execution:
    """How the networks of a fit are executed; what is wrong with their weights is told too."""
    model = model_with_weights(settings)
    samples = settings.batch_size * settings.max_steps
    # Operations of the way back are twice those of the way there.
    compiled = runtime.compiles(device, lambda: 3 * samples * forward_flops(model))
    return Execution(compiled, channels_last=runtime.detector_channels_last)


def initialise(
    model: RealNet,
    anomalies: LocalAnomalies,
    recipe: Recipe,
    name: str,
    accelerator: Accelerator,
) -> None:
    """Standardises the backbone on normal images and chooses the channels by AFS.

    Several processes share AFS, and all choose alike.
    """
    if recipe.realnet.standardise:
        standardise(model, anomalies.normal, recipe.realnet.batch_size, accelerator)
    select_features(model, anomalies, recipe, name, accelerator)


def standardise(model: RealNet, images: Images, batch_size: int, accelerator: Accelerator) -> None:
    """Has the backbone give features of mean 0 and deviation 1 on normal images."""
    statistics = FeatureStatistics(model.backbone.channels, accelerator.device)
    with accelerator.autocast():
        for indices in batches_of(len(images), batch_size):
            some = np.stack([images[index] for index in indices])
            batch = torch.from_numpy(some).to(accelerator.device)
            statistics.update(model.features(batch.float() / 255))
    model.backbone.standardise(statistics)


def select_features(
    model: RealNet,
    anomalies: LocalAnomalies,
    recipe: Recipe,
    name: str,
    accelerator: Accelerator,
) -> None:
    """Chooses the channels in which anomalies show (AFS, paper section 3.2)."""
    settings, device = recipe.realnet, accelerator.device
    every_sample = replace(anomalies, anomalous_fraction=1.0)
    # The batches of one process, shared out: however many there are, all choose alike.
    order = BatchOrder(recipe.seed, len(anomalies.normal), settings.batch_size)
    mine = range(accelerator.process_index, settings.afs_batches, accelerator.num_processes)
    loader = load_batches(
        AnomalyBatches(every_sample, order),
        mine.start,
        mine.stop,
        accelerator,
        mine.step,
    )
    title, visible = f"{name}: choosing features", accelerator.is_main_process
    losses = ChannelLosses(model.backbone.channels, device)
    with accelerator.autocast(), Progress(title, len(mine), visible=visible) as progress:
        for batch in loader:
            moved = batch.to(device)
            losses.update(model.features(moved.anomalous), model.features(moved.normal), moved.mask)
            progress.advance()
    losses.reduce(accelerator)
    require_features(losses.totals)
    model.afs.select(losses.mean())
