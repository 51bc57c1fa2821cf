"""What a fit starts from: images, anomalies in them, features chosen by AFS, an optimizer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import ConcatDataset

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies
from sia_gen.anomalies.sources import Parts, PhotographSource, Sources, texture_files
from sia_gen.config.recipe import Recipe
from sia_gen.images.by_number import Images, Padded, Tiles, areas_of, numbers_of
from sia_gen.images.listing import CategoryImages, describe_photographs
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import open_foregrounds, open_images
from sia_gen.io.files import fingerprint
from sia_gen.realnet.backbone import require_features
from sia_gen.realnet.channels import channel_losses
from sia_gen.realnet.memory import coreset, first_of
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.progress import Progress
from sia_gen.train.batches import BatchOrder, batches_of, load_batches

ENOUGH_TILES = 1024
# Share of the anomalies that are twins.
TWIN_FRACTIONS = {"perlin": 0.0, "mixed": 0.5, "twins": 1.0}


def load_normal(recipe: Recipe, listed: Mapping[str, CategoryImages]) -> dict[str, Parts[Images]]:
    """Opens the normal images of the categories of a model."""
    groups = [paths for images in listed.values() for paths in (images.fit, images.validation)]
    rules = [recipe.foreground.get(category) for category in listed for _ in ("fit", "validation")]
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)
    opened = open_images(groups, spec, rules)
    return dict(zip(listed, map(Parts, opened[::2], opened[1::2]), strict=True))


class FitData(NamedTuple):
    """What a model learns from, and what only its validation sees."""

    fit: LocalAnomalies
    validation: LocalAnomalies
    unseen: LocalAnomalies  # anomalies of a kind that no model learns, in the same photographs


def fit_data(
    recipe: Recipe, normal: Mapping[str, Parts[Images]], sources: Sequence[Sources]
) -> FitData:
    """Combines the normal images of a model's categories with the sources of anomalies.

    The unseen kind are pieces of the held-out photographs themselves, changed and displaced. A
    model that finds only what it has learned to find does not find them.
    """
    settings = recipe.realnet
    fit = replace(
        _anomalies(recipe, normal, sources, "fit"),
        anomalous_fraction=settings.anomalous_fraction,
        horizontal_flip=settings.horizontal_flip,
        vertical_flip=settings.vertical_flip,
    )
    validation = _anomalies(recipe, normal, sources, "validation")
    photographs = [PhotographSource(one.validation, settings.opacity) for one in normal.values()]
    unseen = replace(validation, sources=photographs, twins=(), twin_fraction=0.0)
    return FitData(fit, validation, unseen)


def _anomalies(
    recipe: Recipe,
    normal: Mapping[str, Parts[Images]],
    sources: Sequence[Sources],
    part: Literal["fit", "validation"],
) -> LocalAnomalies:
    """Makes every sample anomalous, each category with its own source and foreground rule."""
    choose = attrgetter(part)
    images: list[Any] = [choose(one) for one in normal.values()]
    rules = [recipe.foreground.get(category) for category in normal]
    masks = list(map(open_foregrounds, images, rules))
    # One picture of ones stands for all images without a rule, which takes no memory.
    whole = np.ones((1, recipe.realnet.image_size, recipe.realnet.image_size), np.uint8)
    foregrounds: list[Any] = [
        np.broadcast_to(whole, (len(some), *whole.shape)) if mask is None else mask
        for mask, some in zip(masks, images, strict=True)
    ]
    areas = [areas_of(some) or () for some in images]
    planes = [some.counted for some in images if isinstance(some, Padded)]
    counted = [one for one in planes if one is not None]
    return LocalAnomalies(
        normal=joined(images),
        sources=[choose(one.pieces) for one in sources if one.pieces is not None],
        foreground=joined(foregrounds) if any(mask is not None for mask in masks) else None,
        twins=[
            # Whichever part they are in, twins start from photographs that a model learns from.
            replace(choose(one.twins), photographs=photographs.fit)
            for one, photographs in zip(sources, normal.values(), strict=True)
            if one.twins is not None
        ],
        twin_fraction=TWIN_FRACTIONS[recipe.realnet.anomalies],
        stroke_fraction=recipe.realnet.stroke_fraction,
        groups=np.repeat(np.arange(len(images)), [len(some) for some in images]),
        areas=list(chain.from_iterable(areas)) or None,
        counted=joined(counted) if counted else None,
    )


def joined(groups: Sequence[Any]) -> Any:
    """Returns the images of several groups as one, whose photographs are numbered throughout."""
    if not all(isinstance(one, Tiles) for one in groups):
        return ConcatDataset(groups)
    places, first = [], 0
    for one in groups:
        places.append(one.places + np.array([first, 0, 0]))
        first += len(one.photographs)
    photographs: Any = ConcatDataset([one.photographs for one in groups])
    counted: Any = None
    if groups[0].counted is not None:
        counted = ConcatDataset([one.counted for one in groups])
    return replace(
        groups[0], photographs=photographs, places=np.concatenate(places), counted=counted
    )


def describe_inputs(
    recipe: Recipe, listed: Mapping[str, CategoryImages], sources: Mapping[str, Sources]
) -> dict[str, Any]:
    """Describes the inputs of the model of the categories that are listed."""
    readers = {name: sources[name].reader for name in listed}
    described = {
        "photographs": describe_photographs(listed.values()),
        "corpus": {
            name: reader.describe() for name, reader in readers.items() if reader is not None
        },
    }
    settings = recipe.realnet
    if settings.anomalies != "twins" and settings.source != "sdas":
        described["textures"] = fingerprint(texture_files(settings.textures))
    return described


def initialise(
    model: RealNet, anomalies: LocalAnomalies, recipe: Recipe, name: str, accelerator: Accelerator
) -> None:
    """Standardises the backbone on normal images and chooses the channels by AFS (section 3.2).

    Several processes share the work of AFS, and all choose the same channels. A memory is filled
    with patches of the normal images.
    """
    settings, device = recipe.realnet, accelerator.device
    if settings.standardise:
        with accelerator.autocast():
            pictures = image_batches(_enough(anomalies.normal), settings.batch_size, device)
            model.backbone.standardise(map(model.features, pictures))
    # The batches do not depend on the number of processes, so neither does the choice.
    order = BatchOrder(recipe.seed, len(anomalies.normal), settings.batch_size)
    batches = AnomalyBatches(replace(anomalies, anomalous_fraction=1.0), order)
    share = range(accelerator.process_index, settings.afs_batches, accelerator.num_processes)
    loader = load_batches(batches, share.start, share.stop, accelerator, share.step)
    channels = model.backbone.channels
    total = torch.zeros(sum(channels), dtype=torch.float64, device=device)
    title, visible = f"{name}: choosing features", accelerator.is_main_process
    with accelerator.autocast(), Progress(title, len(share), visible=visible) as progress:
        for batch in loader:
            anomalous, normal = model.features(batch.anomalous), model.features(batch.normal)
            total += channel_losses(anomalous, normal, batch.mask)
            progress.advance()
    losses = accelerator.reduce(total, "sum") / settings.afs_batches
    require_features([losses])
    model.afs.select(losses.float().split(channels))
    if model.memory is not None:

        def choose(patches: torch.Tensor, size: int) -> torch.Tensor:
            if settings.memory_choice == "random":
                return first_of(patches, size)
            with Progress(f"{name}: choosing patches", size, visible=visible) as progress:
                return coreset(patches, size, progress.advance)

        pictures = image_batches(anomalies.normal, settings.batch_size, device)
        with accelerator.autocast():
            features = (model.selected_features(some)[0] for some in pictures)
            model.memory.fill(features, numbers_of(anomalies.normal).tolist(), recipe.seed, choose)


def _enough(images: Images) -> Images:
    """Returns images to standardise channels by: of very many tiles some, evenly spaced."""
    if not isinstance(images, Tiles) or len(images) <= ENOUGH_TILES:
        return images
    chosen = np.linspace(0, len(images) - 1, ENOUGH_TILES).round().astype(int)
    return replace(images, places=images.places[chosen])


def image_batches(images: Images, batch_size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yields images in batches (B, C, H, W) in [0, 1]."""
    for indices in batches_of(len(images), batch_size):
        pixels = np.stack([images[index] for index in indices])
        yield torch.from_numpy(pixels).to(device).float() / 255


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
