"""What a model is fitted to: normal images, and anomalies made in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import numpy as np

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Sources, texture_files
from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import CategoryImages, describe_photographs
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import Images, JoinedImages, open_foregrounds, open_images
from sia_gen.io.files import fingerprint

# Share of the anomalies that are twins.
TWIN_FRACTIONS = {"perlin": 0.0, "mixed": 0.5, "twins": 1.0}


@dataclass(frozen=True)
class NormalImages:
    """The normal images of a category to train on and to validate on; some were `unreadable`."""

    category: str
    fit: Images
    validation: Images
    unreadable: int = 0


@dataclass(frozen=True)
class FitData:
    """Anomalies on the training images, and on the images held out."""

    training: LocalAnomalies
    validation: LocalAnomalies


def load_normal(recipe: Recipe, listed: Mapping[str, CategoryImages]) -> list[NormalImages]:
    """Opens the normal images of the categories of a model."""
    groups = [paths for images in listed.values() for paths in (images.fit, images.validation)]
    rules = [recipe.foreground.get(category) for category in listed for _ in ("fit", "validation")]
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)
    opened = iter(open_images(groups, spec, rules))
    return [
        NormalImages(category, next(opened), next(opened), len(images.unreadable))
        for category, images in listed.items()
    ]


def fit_data(recipe: Recipe, normal: Sequence[NormalImages], sources: Sequence[Sources]) -> FitData:
    """Combines the normal images of a model's categories with the sources of anomalies."""
    training, validation = (
        _anomalies(recipe, normal, sources, part) for part in ("fit", "validation")
    )
    settings = recipe.realnet
    training = replace(
        training,
        anomalous_fraction=settings.anomalous_fraction,
        horizontal_flip=settings.horizontal_flip,
        vertical_flip=settings.vertical_flip,
    )
    return FitData(training, validation)


def _anomalies(
    recipe: Recipe,
    normal: Sequence[NormalImages],
    sources: Sequence[Sources],
    part: Literal["fit", "validation"],
) -> LocalAnomalies:
    """Makes every sample anomalous, each category with its own source and foreground rule."""
    choose = attrgetter(part)
    images: list[Images] = [choose(one) for one in normal]
    return LocalAnomalies(
        normal=JoinedImages(images),
        sources=[choose(one.pieces) for one in sources if one.pieces is not None],
        foreground=_foregrounds(recipe, [one.category for one in normal], images),
        twins=[choose(one.twins) for one in sources if one.twins is not None],
        twin_fraction=TWIN_FRACTIONS[recipe.realnet.anomalies],
        groups=np.repeat(np.arange(len(images)), [len(some) for some in images]),
    )


def _foregrounds(
    recipe: Recipe, categories: Sequence[str], images: Sequence[Images]
) -> Images | None:
    masks = [
        open_foregrounds(some, recipe.foreground.get(category))
        for category, some in zip(categories, images, strict=True)
    ]
    if all(mask is None for mask in masks):
        return None
    size = recipe.realnet.image_size
    # One picture of ones stands for all images without a rule, which takes no memory.
    whole = np.ones((1, size, size), np.uint8)
    return JoinedImages(
        [
            np.broadcast_to(whole, (len(some), *whole.shape)) if mask is None else mask
            for mask, some in zip(masks, images, strict=True)
        ]
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
