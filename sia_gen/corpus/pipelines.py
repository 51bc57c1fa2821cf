"""The pipelines that make a corpus: which folder makes which category, and how they compute."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, release_memory

from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory
from sia_gen.corpus.manifest import MANIFEST, read_manifest
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.corpus.schema import SAMPLES, Kind
from sia_gen.diffusion.readiness import unready
from sia_gen.errors import ModelError, OptionError
from sia_gen.io.locations import Location
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.compilation import Execution
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import REPORT, HashCache, check_pipeline, find_pipeline, load_pipeline
from sia_gen.sdas.pipeline import SDASPipeline


class Pipelines:
    """The pipelines of a corpus, opened one at a time.

    Args:
        recipe: Gives the mode of the images, and whether a classifier guides.
        categories: The categories to make.
        models: Folder with one pipeline per category, or a joint one; see `sia_gen.sdas.loading`.
            For a collection, the folder with that of each data set at `<recipe>/diffusion`.
        classifier: Folder of the classifier, used if the recipe's guidance scale is not 0. A
            collection has one of each data set at `<recipe>/classifier/model` below `models`.

    Attributes:
        image_size: Side of the images that all pipelines make, pixels.
        accelerator: Device and precision, once `start` was called.
        execution: How networks compute, once `start` was called.

    Raises:
        ModelError: If a pipeline is missing, damaged, or makes images of another size, or guidance
            lacks a classifier.
    """

    accelerator: Accelerator
    execution: Execution

    def __init__(
        self,
        recipe: CorpusRecipe,
        categories: Sequence[DatasetCategory],
        models: Path,
        classifier: Path | None = None,
    ) -> None:
        self.recipe, self.categories, self.models = recipe, categories, models
        self.collection = isinstance(recipe, Collection)
        self.guided = recipe.synthesis.guidance_scale > 0
        self.given_classifier = classifier
        if self.guided and classifier is None and not self.collection:
            raise ModelError(
                problem="guidance needs a classifier.",
                fix="Train one with 'sia-gen train-classifier', and give its folder.",
            )
        self.opened: tuple[Path, SDASPipeline] | None = None
        self.recipes = {self.folder(category): category.recipe for category in categories}
        self.image_size = self._common_image_size()

    def _common_image_size(self) -> int:
        sizes = {folder: check_pipeline(folder, recipe) for folder, recipe in self.recipes.items()}
        (first, size), *others = sizes.items()
        for folder, other in others:
            if other != size:
                raise ModelError(
                    problem=f"the model in {folder} makes images of {other} pixels, the one in "
                    f"{first} of {size}.",
                    fix="Make the categories one by one with --category, each with its own --out.",
                )
        return size

    def folder(self, category: DatasetCategory) -> Path:
        """Returns the folder of the pipeline that makes a category."""
        own = self.models / category.recipe.name / "diffusion"
        return find_pipeline(own if self.collection else self.models, category.category)

    def _classifier(self, category: DatasetCategory) -> Path | None:
        if not self.guided:
            return None
        own = self.models / category.recipe.name / "classifier" / "model"
        return self.given_classifier or own

    def start(
        self, runtime: Runtime, accelerator: Accelerator, kind: Kind, out: Location | None = None
    ) -> None:
        """Decides for all processes how networks compute, so that all shards are alike.

        Args:
            runtime: Options of the user. What they leave open stays as in a corpus that was begun.
            accelerator: Accelerator of the run.
            kind: What the corpus holds: only single samples are made by compiled networks.
            out: Folder of the corpus.

        Raises:
            OptionError: If networks should be compiled, and cannot be.
        """
        if kind != SAMPLES and runtime.compiled:
            raise OptionError(
                problem="--compile is for single samples, not for twins.", fix="Leave it out."
            )
        if out is not None and (out / MANIFEST).is_file():
            begun = read_manifest(out)
            for option in ("compiled", "channels_last"):
                if getattr(runtime, option) is None:
                    runtime = replace(runtime, **{option: getattr(begun, option)})
        compiled = False
        if kind == SAMPLES:
            # The work for one category.
            steps = self.recipe.synthesis.images * self.recipe.synthesis.steps
            flops = partial(forward_flops, self.load(self.categories[0]).unet)
            here = runtime.compiles(accelerator.device, lambda: steps * flops())
            compiled = all(gather_object([here]))
        self.accelerator = accelerator
        self.execution = runtime.execution(accelerator.device, compiled=compiled)

    @property
    def sampler(self) -> str:
        """Name of the noise scheduler of all pipelines."""
        return type(self.load(self.categories[0]).scheduler).__name__

    def hash(self, category: DatasetCategory, cache: HashCache) -> str:
        """Hashes all weights that decide the samples of a category."""
        return cache.model_hash(self.folder(category), self._classifier(category))

    def hashes(self, cache: HashCache) -> dict[str, str]:
        """Returns the hashes of all categories, by name, to all processes of the run."""
        hashes: list[dict[str, str]] = [{}]
        if self.accelerator.is_main_process:
            # Reading all weights takes minutes if they are large and many: one process does it.
            hashes = [{category.name: self.hash(category, cache) for category in self.categories}]
        broadcast_object_list(hashes)
        return hashes[0]

    def load(self, category: DatasetCategory) -> SDASPipeline:
        """Loads the pipeline of a category; a joint one is loaded once for all that follow."""
        folder = self.folder(category)
        if self.opened is None or self.opened[0] != folder:
            # Frees the previous one, so that two are never in memory together. In mixed precision
            # a network refers to itself: only the garbage collector frees it.
            self.opened = None
            release_memory()
            classifier = self._classifier(category)
            self.opened = folder, load_pipeline(folder, category.recipe, classifier)
        return self.opened[1]

    def prepared(self, category: DatasetCategory) -> SDASPipeline:
        """Loads the pipeline of a category, and moves it to the device."""
        pipeline = self.load(category)
        prepare_pipeline(pipeline, self.accelerator, self.execution)
        return pipeline

    def warn_of_unready(self) -> None:
        """Warns of models that were not ready when their training ended."""
        for folder in self.recipes:
            reason = unready(folder / REPORT)
            if reason is not None:
                print(f"warning: the model in {folder} is {reason}.", file=sys.stderr, flush=True)
