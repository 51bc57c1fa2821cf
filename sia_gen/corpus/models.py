"""The models a corpus is made with: which folder makes which category."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import release_memory

from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory
from sia_gen.diffusion.readiness import unready
from sia_gen.errors import ModelError
from sia_gen.sdas.loading import REPORT, HashCache, check_pipeline, find_pipeline, load_pipeline
from sia_gen.sdas.pipeline import SDASPipeline


class Sources:
    """The pipelines of a corpus, opened one at a time.

    Args:
        recipe: Says of which mode the images are, and whether a classifier guides.
        models: Folder with one pipeline per category, or a joint one; see `sia_gen.sdas.loading`.
            For a collection, the folder with that of each data set at `<recipe>/diffusion`.
        classifier: Folder of the classifier, used if the recipe's guidance scale is not 0. A
            collection has one of each data set at `<recipe>/classifier/model` below `models`.

    Raises:
        ModelError: If there is none then.
    """

    def __init__(self, recipe: CorpusRecipe, models: Path, classifier: Path | None) -> None:
        self.models = models
        self.collection = isinstance(recipe, Collection)
        self.guided = recipe.synthesis.guidance_scale > 0
        self.given_classifier = classifier
        if self.guided and classifier is None and not self.collection:
            raise ModelError(
                problem="guidance needs a classifier.",
                fix="Train one with 'sia-gen train-classifier', and give its folder.",
            )
        self.opened: tuple[Path, SDASPipeline] | None = None

    def folder(self, category: DatasetCategory) -> Path:
        """The folder of the pipeline that makes a category."""
        own = self.models / category.recipe.name / "diffusion"
        return find_pipeline(own if self.collection else self.models, category.category)

    def classifier(self, category: DatasetCategory) -> Path | None:
        """The folder of the classifier that guides a category, if one does."""
        if not self.guided:
            return None
        own = self.models / category.recipe.name / "classifier" / "model"
        return self.given_classifier or own

    def hash(self, category: DatasetCategory, cache: HashCache) -> str:
        """A hash of all weights that decide the samples of a category."""
        return cache.model_hash(self.folder(category), self.classifier(category))

    def image_size(self, categories: Sequence[DatasetCategory]) -> int:
        """The side of the images, in pixels, that all of the models make.

        Raises:
            ModelError: If a model is missing or damaged, or makes images of another size.
        """
        sizes = {
            self.folder(one): check_pipeline(self.folder(one), one.recipe) for one in categories
        }
        (first, size), *others = sizes.items()
        for folder, other in others:
            if other != size:
                raise ModelError(
                    problem=f"the model in {folder} makes images of {other} pixels, the one in "
                    f"{first} of {size}.",
                    fix="Make the categories one by one with --category, each with its own --out.",
                )
        return size

    def load(self, category: DatasetCategory) -> SDASPipeline:
        """The pipeline of a category; a joint one is loaded once for all that follow."""
        folder = self.folder(category)
        if self.opened is None or self.opened[0] != folder:
            # Frees the one before, so that two are never in memory together. In mixed precision a
            # network refers to itself: only the collector frees it.
            self.opened = None
            release_memory()
            classifier = self.classifier(category)
            self.opened = folder, load_pipeline(folder, category.recipe, classifier)
        return self.opened[1]

    def warn_of_unready(self, categories: Sequence[DatasetCategory]) -> None:
        """Says which models were not ready when their training ended."""
        for folder in dict.fromkeys(self.folder(category) for category in categories):
            reason = unready(folder / REPORT)
            if reason is not None:
                print(f"warning: the model in {folder} is {reason}.", file=sys.stderr, flush=True)
