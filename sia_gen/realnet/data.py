"""What a model is fitted to: normal images, and anomalies made in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sia_gen.images.listing import CategoryImages
from sia_gen.images.store import Images, JoinedImages, open_foregrounds, open_images
from sia_gen.locations import Location
from sia_gen.realnet.anomalies import LocalAnomalies
from sia_gen.realnet.sources import Source, TwinSource, make_source, make_twin_source
from sia_gen.recipe import Recipe

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
    size, non_square = recipe.realnet.image_size, recipe.data.non_square
    opened = iter(open_images(groups, recipe.mode, size, non_square, rules))
    return [
        NormalImages(category, next(opened), next(opened), len(images.unreadable))
        for category, images in listed.items()
    ]


def fit_data(recipe: Recipe, normal: Sequence[NormalImages], corpus: Location) -> FitData:
    """Joins the normal images of a model's categories with what is pasted into them."""
    settings = recipe.realnet
    categories = [images.category for images in normal]
    sources, twins = open_sources(recipe, categories, corpus)
    training = anomalies_in(
        recipe,
        categories,
        [images.fit for images in normal],
        sources,
        twins,
        settings.anomalous_fraction,
        flips=(settings.horizontal_flip, settings.vertical_flip),
    )
    validation = anomalies_in(
        recipe, categories, [images.validation for images in normal], sources, twins, 1.0
    )
    return FitData(training, validation)


def open_sources(
    recipe: Recipe, categories: Sequence[str], corpus: Location
) -> tuple[list[Source], list[TwinSource]]:
    """Where the anomalies of each category come from, as far as the recipe asks for them.

    Raises:
        UserError: If the corpus or the textures are not there.
    """
    kind = recipe.realnet.anomalies
    pieces = [] if kind == "twins" else categories
    twins = [] if kind == "perlin" else categories
    return (
        [make_source(recipe, category, corpus) for category in pieces],
        [make_twin_source(recipe, category, corpus) for category in twins],
    )


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
