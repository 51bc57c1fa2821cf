"""The models a corpus is made with: which folder makes which category."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sia_gen.diffusion.readiness import unready
from sia_gen.errors import ModelError
from sia_gen.recipe import Recipe
from sia_gen.sdas.loading import REPORT, find_pipeline, load_pipeline, model_hash
from sia_gen.sdas.pipeline import SDASPipeline


class Sources:
    """The pipelines below a folder, opened one at a time.

    Args:
        recipe: Says of which mode the images are, and whether a classifier guides.
        models: Folder with one pipeline per category, or a joint one; see `sia_gen.sdas.loading`.
        classifier: Folder of the classifier, used if the recipe's guidance scale is not 0.

    Raises:
        ModelError: If there is none then.
    """

    def __init__(self, recipe: Recipe, models: Path, classifier: Path | None) -> None:
        self.recipe = recipe
        self.models = models
        self.classifier = classifier if recipe.synthesis.guidance_scale > 0 else None
        if self.classifier is None and recipe.synthesis.guidance_scale > 0:
            raise ModelError(
                problem="guidance needs a classifier.",
                fix="Train one with 'sia-gen train-classifier', and give its folder.",
            )
        self.opened: tuple[Path, SDASPipeline] | None = None

    def folder(self, category: str) -> Path:
        """The folder of the pipeline that makes a category."""
        return find_pipeline(self.models, category)

    def hash(self, category: str) -> str:
        """A hash of all weights that decide the samples of a category."""
        return model_hash(self.folder(category), self.classifier)

    def load(self, category: str) -> SDASPipeline:
        """The pipeline of a category; a joint one is loaded once for all that follow."""
        folder = self.folder(category)
        if self.opened is None or self.opened[0] != folder:
            # Frees the one before, so that two are never in memory together.
            self.opened = None
            self.opened = folder, load_pipeline(folder, self.recipe, self.classifier)
        return self.opened[1]

    def warn_of_unready(self, categories: Sequence[str]) -> None:
        """Says which models were not ready when their training ended."""
        for folder in dict.fromkeys(self.folder(category) for category in categories):
            reason = unready(folder / REPORT)
            if reason is not None:
                print(f"warning: the model in {folder} is {reason}.", file=sys.stderr, flush=True)
