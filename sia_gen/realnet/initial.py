"""What a fit starts from: its execution, the features that AFS chooses, and the optimizer."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies
from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.images.store import Images
from sia_gen.realnet.afs import ChannelLosses
from sia_gen.realnet.backbone import FeatureStatistics, require_features
from sia_gen.realnet.model import RealNet, forward_flops
from sia_gen.runtime.device import Execution, Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, batches_of, load_batches


def fit_execution(settings: RealNetFit, runtime: Runtime, device: torch.device) -> Execution:
    """Decides how the networks of a fit are executed; `UserError` if they cannot be made."""
    model = RealNet.of(settings)
    samples = settings.batch_size * settings.max_steps
    # The backward pass takes twice the operations of the forward pass.
    compiled = runtime.compiles(device, lambda: 3 * samples * forward_flops(model))
    return Execution(compiled, channels_last=runtime.detector_channels_last)


def initialise(
    model: RealNet, anomalies: LocalAnomalies, recipe: Recipe, name: str, accelerator: Accelerator
) -> None:
    """Standardises the backbone on normal images and chooses the channels by AFS (section 3.2).

    Several processes share the work of AFS, and all choose the same channels.
    """
    settings = recipe.realnet
    if settings.standardise:
        _standardise(model, anomalies.normal, settings.batch_size, accelerator)
    # The batches do not depend on the number of processes, so neither does the choice.
    order = BatchOrder(recipe.seed, len(anomalies.normal), settings.batch_size)
    batches = AnomalyBatches(replace(anomalies, anomalous_fraction=1.0), order)
    share = range(accelerator.process_index, settings.afs_batches, accelerator.num_processes)
    loader = load_batches(batches, share.start, share.stop, accelerator, share.step)
    losses = ChannelLosses(model.backbone.channels, accelerator.device)
    title, visible = f"{name}: choosing features", accelerator.is_main_process
    with accelerator.autocast(), Progress(title, len(share), visible=visible) as progress:
        for batch in loader:
            losses.update(model.features(batch.anomalous), model.features(batch.normal), batch.mask)
            progress.advance()
    losses.reduce(accelerator)
    require_features(losses.totals)
    model.afs.select(losses.mean())


def _standardise(model: RealNet, images: Images, batch_size: int, accelerator: Accelerator) -> None:
    statistics = FeatureStatistics(model.backbone.channels, accelerator.device)
    with accelerator.autocast():
        for indices in batches_of(len(images), batch_size):
            pixels = np.stack([images[index] for index in indices])
            batch = torch.from_numpy(pixels).to(accelerator.device)
            statistics.update(model.features(batch.float() / 255))
    model.backbone.standardise(statistics)


def adam(
    parameters: Iterable[nn.Parameter], learning_rate: float, *, compiled: bool
) -> torch.optim.Adam:
    """Returns the optimizer of the paper, fused if the networks are compiled for a GPU."""
    parameters = list(parameters)
    fused = compiled and parameters[0].device.type == "cuda"
    return torch.optim.Adam(parameters, lr=learning_rate, fused=fused or None)


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Gives the moments of Adam the memory format of their weights, as fused Adam requires.

    A checkpoint restores them in the format in which they were saved.
    """
    for weights, moments in optimizer.state.items():
        for name, values in moments.items():
            if values.ndim == 4:
                moments[name] = torch.empty_like(weights).copy_(values)
