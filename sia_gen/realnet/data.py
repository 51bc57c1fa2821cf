"""What a category is fitted to: its normal images, and anomalies made with the synthetic ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sia_gen.images.foreground import foreground_masks
from sia_gen.images.listing import list_images
from sia_gen.images.loading import load_images
from sia_gen.locations import Location
from sia_gen.realnet.anomalies import LocalAnomalies, Pixels
from sia_gen.realnet.sources import make_source
from sia_gen.recipe import Recipe


@dataclass(frozen=True)
class FitData:
    """Anomalies on the training images of a category, and on those kept back."""

    training: LocalAnomalies
    validation: LocalAnomalies


def load_normal(recipe: Recipe, category: str, root: Path) -> tuple[Pixels, Pixels]:
    """The normal images to train on and those kept back, (N, C, H, W) each."""
    paths = list_images(recipe, root, category)
    size, non_square = recipe.realnet.image_size, recipe.data.non_square
    return (
        load_images(paths.fit, recipe.mode, size, non_square),
        load_images(paths.validation, recipe.mode, size, non_square),
    )


def fit_data(
    recipe: Recipe, normal: tuple[Pixels, Pixels], category: str, corpus: Location
) -> FitData:
    """Joins the normal images of a category with its synthetic ones."""
    settings, rule = recipe.realnet, recipe.foreground.get(category)
    training = LocalAnomalies(
        normal=normal[0],
        source=make_source(recipe, category, corpus),
        anomalous_fraction=settings.anomalous_fraction,
        horizontal_flip=settings.horizontal_flip,
        vertical_flip=settings.vertical_flip,
        foreground=foreground_masks(normal[0], rule),
    )
    validation = LocalAnomalies(
        normal=normal[1],
        source=training.source,
        anomalous_fraction=1.0,
        foreground=foreground_masks(normal[1], rule),
    )
    return FitData(training, validation)
