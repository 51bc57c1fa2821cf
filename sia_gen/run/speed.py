"""Times on this machine what a run will do most often, with random images and a few photographs."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers.training_utils import EMAModel

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import PhotographSource
from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import EVERYWHERE
from sia_gen.diffusion.state import make_optimizer
from sia_gen.evaluation.threshold_page import save_pictures
from sia_gen.images.loading import ImageSpec, Pixels, area_looked_at
from sia_gen.images.opening import upright_size
from sia_gen.images.store import open_images
from sia_gen.inspection.distance import open_backbone
from sia_gen.io.files import FileGroups
from sia_gen.networks.unet import build_unet
from sia_gen.realnet.memory import CANDIDATES, coreset
from sia_gen.realnet.model import RealNet, RealNetObjective
from sia_gen.runtime.device import Runtime
from sia_gen.twins.regions import region, whole

# Images of a step of training, and how many of more pixels are timed, to save memory.
BATCH_SIZE, LARGE_SIZE, LARGE_IMAGES = 16, 128, 4
# Images for which networks of a detector are timed, patches that are chosen, photographs read.
DETECTOR_IMAGES, PATCHES, PHOTOGRAPHS = 4, 20, 6
# Networks with more are too large for a plan.
MOST_PARAMETERS = 200_000_000
# Most turns in which each is timed; there is no further one after as many seconds.
TURNS, ENOUGH = 3, 3.0
# How much longer one turn takes than another if other programs are busy.
UNSTEADY = 1.5

# What is timed, by name.
Runs = dict[str, Callable[[], object]]


class DiffusionSpeed(NamedTuple):
    """Seconds of a diffusion model for an image."""

    step: float  # its share of a step of training
    image: float  # to denoise it once
    region: float = 0.0  # to draw where it is perturbed


class DetectorSpeed(NamedTuple):
    """Seconds of a detector for an image, unless it says otherwise."""

    features: float  # to compute the features of the backbone
    score: float  # to score it
    step: float  # of fitting
    anomaly: float  # to make an anomaly in it
    patch: float  # to choose a patch of the memory; 0 without one
    reading: float  # to read a photograph
    picture: float = 0.0  # to write its pictures for a page
    mask: float = 0.0  # to compute features of a twin for its mask, in full precision
    tiles: float = 1.0  # number of images that a photograph is cut into


def diffusion_speed(recipe: Recipe, runtime: Runtime) -> DiffusionSpeed:
    """Times the network of a recipe with random images, as training and sampling use it."""
    accelerator, settings = runtime.accelerator(), recipe.diffusion
    unet = build_unet(settings, len(recipe.mode)).to(accelerator.device)
    optimizer, average = make_optimizer(unet, settings), EMAModel(unet.parameters())
    average.to(device=accelerator.device)
    side = settings.image_size
    number = BATCH_SIZE if side <= LARGE_SIZE else LARGE_IMAGES
    images = torch.randn(number, len(recipe.mode), side, side, device=accelerator.device)
    timesteps = torch.arange(number, device=accelerator.device)

    def train() -> None:
        with accelerator.autocast():
            output = unet(images, timesteps).sample
        torch.autograd.backward(output.float().square().mean())
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(unet.parameters())

    def denoise() -> None:
        with torch.no_grad(), accelerator.autocast():
            unet(images, timesteps)

    seconds = seconds_of(
        {"train": train, "denoise": denoise} | _regions(recipe), accelerator.device
    )
    return DiffusionSpeed(
        seconds["train"] / number, seconds["denoise"] / number, seconds.get("region", 0.0)
    )


def _regions(recipe: Recipe) -> Runs:
    twins, spec = recipe.synthesis.twins, ImageSpec.of(recipe, recipe.diffusion.image_size)
    if twins is None or twins.region == EVERYWHERE:
        return {}
    seeds, kind, place = count(), recipe.synthesis.perturbation[0], twins.region
    draw = partial(region, perturbation=kind, spec=spec, foreground=whole(spec))
    return {"region": lambda: draw(place, next(seeds))}


def can_be_timed(recipe: Recipe) -> bool:
    """Whether a network is small enough to be made for that alone, and is not given."""
    if recipe.diffusion.init is not None:
        return False
    with torch.device("meta"):
        unet = build_unet(recipe.diffusion, len(recipe.mode))
    return int(sum(one.numel() for one in unet.parameters())) <= MOST_PARAMETERS


def detector_speed(
    recipe: Recipe, runtime: Runtime, model: RealNet, photographs: Sequence[Path]
) -> DetectorSpeed:
    """Times a detector with random images, and the reading of some photographs."""
    accelerator, side = runtime.accelerator(), recipe.realnet.image_size
    device = accelerator.device
    model.to(device)
    if runtime.detector_channels_last:
        model.to(memory_format=torch.channels_last)
    # The distances of a whole batch from a memory are too many for caches; networks take longer.
    batch = DETECTOR_IMAGES if model.memory is None else recipe.realnet.batch_size
    images = torch.rand(batch, len(recipe.mode), side, side, device=device)
    mask = torch.zeros(batch, 1, side, side, device=device)
    numbers = torch.arange(batch, device=device)
    objective, generator = RealNetObjective(model), np.random.default_rng(0)
    reading, pixels, tiles = _read(recipe, photographs)
    anomalies = LocalAnomalies(pixels, [PhotographSource(pixels, recipe.realnet.opacity)])

    def features() -> None:
        with torch.no_grad(), accelerator.autocast():
            model.features(images)

    def score() -> None:
        with torch.no_grad(), accelerator.autocast():
            model(images)

    def fit() -> None:
        with accelerator.autocast():
            losses = objective(images, images, mask, numbers)
        torch.autograd.backward(sum(losses, torch.zeros((), device=device)))
        model.zero_grad()

    runs: Runs = {
        "features": features,
        "score": score,
        "fit": fit,
        "anomaly": lambda: anomalies.sample(0, generator, 0),
        "picture": partial(_save_pictures, recipe, photographs[0]),
    }
    runs |= _masks(recipe, device) | _patches(model, round(tiles * len(photographs)))
    seconds = seconds_of(runs, device)
    # Others, because those that were read are in memory by now.
    again, _, _ = _read(recipe, photographs[1:] or photographs)
    return DetectorSpeed(
        features=seconds["features"] / batch,
        score=seconds["score"] / batch,
        step=seconds["fit"] / batch,
        anomaly=seconds["anomaly"],
        # A difference, because the projection before the first choice is no part of the others.
        patch=max(0.0, seconds.get("many", 0.0) - seconds.get("few", 0.0)) / PATCHES,
        reading=min(reading, again),
        picture=seconds["picture"],
        mask=seconds.get("mask", 0.0) / DETECTOR_IMAGES,
        tiles=tiles,
    )


def _masks(recipe: Recipe, device: torch.device) -> Runs:
    if recipe.synthesis.twins is None:
        return {}
    backbone, side = open_backbone(recipe).to(device), recipe.realnet.image_size
    return {"mask": partial(backbone, torch.rand(DETECTOR_IMAGES, 3, side, side, device=device))}


def _patches(model: RealNet, images: int) -> Runs:
    if model.memory is None:
        return {}
    patches, side = model.memory.patches, model.image_size // min(model.strides)
    number = max(1 + PATCHES, min(CANDIDATES, images * side**2))
    candidates = torch.rand(number, patches.shape[1], device=patches.device)
    return {
        "few": partial(coreset, candidates, 1),
        "many": partial(coreset, candidates, 1 + PATCHES),
    }


def _read(recipe: Recipe, photographs: Sequence[Path]) -> tuple[float, Pixels, float]:
    """Returns the mean seconds to read some photographs, images, and their number in each.

    One that is read before them serves to load the decoder.
    """
    chosen = photographs[:: -(-len(photographs) // PHOTOGRAPHS)]
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)
    open_images([chosen[:1]], spec)
    started = time.monotonic()
    (images,) = open_images([chosen], spec)
    pixels = np.stack([images[number] for number in range(min(len(images), PHOTOGRAPHS))])
    return (time.monotonic() - started) / len(chosen), pixels, len(images) / len(chosen)


def _save_pictures(recipe: Recipe, photograph: Path) -> None:
    spec, size = ImageSpec.of(recipe, recipe.realnet.image_size), upright_size(photograph)
    area, anomaly_map = area_looked_at(size, spec), np.zeros((spec.size, spec.size), np.float32)
    with tempfile.TemporaryDirectory() as folder, FileGroups() as files:
        save_pictures(
            files, Path(folder, "picture"), photograph, spec.white, size, anomaly_map, area
        )


def seconds_of(runs: Runs, device: torch.device) -> dict[str, float]:
    """Returns the shortest duration of each, after one that does not count.

    They take turns, so that another program that is busy for a while delays some turns of all, not
    all turns of one. If some turns were delayed, what was timed only once gets another one.
    """
    for run in runs.values():
        _seconds_of_one(run, device)
    durations: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, run in runs.items():
            if sum(durations[name]) <= ENOUGH:
                durations[name].append(_seconds_of_one(run, device))
    if any(max(taken) > UNSTEADY * min(taken) for taken in durations.values()):
        for name, taken in durations.items():
            if len(taken) == 1:
                taken.append(_seconds_of_one(runs[name], device))
    return {name: min(taken) for name, taken in durations.items()}


def _seconds_of_one(run: Callable[[], object], device: torch.device) -> float:
    started = time.monotonic()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - started
