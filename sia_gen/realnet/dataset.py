"""What a model is fitted to: normal images, and anomalies made in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Source, Sources, TwinSource, texture_files
from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import CategoryImages, describe_photographs
from sia_gen.images.loading import ImageSpec
from sia_gen.images.store import Images, JoinedImages, open_foregrounds, open_images
from sia_gen.io.files import fingerprint

# Share of the anomalies that are twins.
TWIN_FRACTIONS = {"perlin": 0.0, "mixed": 0.5, "twins": 1.0}


@dataclass(frozen=True)
class NormalImages:
    """The normal images of a category.

    Attributes:
        category: Its name.
        fit: Those to train on.
        validation: Those kept back.
        unreadable: How many could not be read and were left out, as the recipe allows.
    """

    category: str
    fit: Images
    validation: Images
    unreadable: int = 0


@dataclass(frozen=True)
class FitData:
    """Anomalies on the training images, and on those kept back."""

    training: LocalAnomalies
    validation: LocalAnomalies


def load_normal(recipe: Recipe, listed: Mapping[str, CategoryImages]) -> list[NormalImages]:
    """The normal images to train a model on and those kept back, of its categories."""
    groups = [paths for images in listed.values() for paths in (images.fit, images.validation)]
    rules = [recipe.foreground.get(category) for category in listed for _ in ("fit", "validation")]
    spec = ImageSpec.of(recipe, recipe.realnet.image_size)
    opened = iter(open_images(groups, spec, rules))
    return [
        NormalImages(category, next(opened), next(opened), len(images.unreadable))
        for category, images in listed.items()
    ]


def fit_data(recipe: Recipe, normal: Sequence[NormalImages], sources: Sequence[Sources]) -> FitData:
    """Joins the normal images of a model's categories with what is pasted into them."""
    settings = recipe.realnet
    flips = (settings.horizontal_flip, settings.vertical_flip)
    fraction = settings.anomalous_fraction
    fit = [images.fit for images in normal]
    validation = [images.validation for images in normal]
    categories = [images.category for images in normal]
    pieces = [one.pieces for one in sources if one.pieces is not None]
    twins = [one.twins for one in sources if one.twins is not None]
    return FitData(
        anomalies_in(
            recipe,
            categories,
            fit,
            [parts.fit for parts in pieces],
            [parts.fit for parts in twins],
            fraction,
            flips=flips,
        ),
        anomalies_in(
            recipe,
            categories,
            validation,
            [parts.validation for parts in pieces],
            [parts.validation for parts in twins],
            1.0,
        ),
    )


def describe_inputs(
    recipe: Recipe,
    listed: Mapping[str, CategoryImages],
    sources: Mapping[str, Sources],
) -> dict[str, Any]:
    """What a model is fitted to, to distinguish it from other inputs.

    Args:
        recipe: Of the fit.
        listed: The photographs, by the categories of the model.
        sources: Of the anomalies, likewise.
    """
    readers = {name: one.reader for name, one in sources.items() if one.reader is not None}
    described = {
        "photographs": describe_photographs(listed.values()),
        "corpus": {name: reader.describe() for name, reader in readers.items()},
    }
    settings = recipe.realnet
    if settings.anomalies != "twins" and settings.source != "sdas":
        described["textures"] = fingerprint(texture_files(settings.textures))
    return described


def anomalies_in(
    recipe: Recipe,
    categories: Sequence[str],
    images: Sequence[Images],
    sources: Sequence[Source],
    twins: Sequence[TwinSource],
    anomalous_fraction: float,
    *,
    flips: tuple[bool, bool] = (False, False),
) -> LocalAnomalies:
    """Anomalies in the images of some categories, each with the source and rule of its own."""
    masks = [
        open_foregrounds(some, recipe.foreground.get(category))
        for category, some in zip(categories, images, strict=True)
    ]
    size = recipe.realnet.image_size
    whole = np.ones((1, size, size), np.uint8)
    everywhere = [
        # One picture of ones stands for all: it takes no memory.
        np.broadcast_to(whole, (len(some), *whole.shape)) if mask is None else mask
        for mask, some in zip(masks, images, strict=True)
    ]
    return LocalAnomalies(
        normal=JoinedImages(images),
        sources=sources,
        anomalous_fraction=anomalous_fraction,
        horizontal_flip=flips[0],
        vertical_flip=flips[1],
        foreground=None if all(mask is None for mask in masks) else JoinedImages(everywhere),
        twins=twins,
        twin_fraction=TWIN_FRACTIONS[recipe.realnet.anomalies],
        groups=np.repeat(np.arange(len(images)), [len(some) for some in images]),
    )
