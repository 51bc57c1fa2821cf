"""Makes a corpus, or one of its samples again: runs the SDAS pipelines and fills the shards.

CORPUS/
    recipe.yaml  manifest.json  README.md
    data/<dataset>/<category>/train-00000-of-0000K.tar
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, release_memory

from sia_gen.config.recipe import Collection, CorpusRecipe, DatasetCategory, all_categories
from sia_gen.corpus.manifest import HASHES, MANIFEST, Manifest, read_manifest
from sia_gen.corpus.output import CorpusOutput, recipe_fields
from sia_gen.corpus.plan import ShardPlan, choose_shards, plan_corpus
from sia_gen.corpus.sampling import (
    Maker,
    SampleMaker,
    explained_sampling,
    passes_timed,
    prepare_pipeline,
)
from sia_gen.corpus.schema import SAMPLES, Kind
from sia_gen.diffusion.readiness import unready
from sia_gen.errors import ModelError, OptionError
from sia_gen.io.files import Location, atomic_path, prepare_output
from sia_gen.io.locks import settling, working_on
from sia_gen.networks.unet import forward_flops
from sia_gen.runtime.device import NOTICE, Execution, Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import REPORT, HashCache, check_pipeline, find_pipeline, load_pipeline
from sia_gen.sdas.pipeline import SDASPipeline

# Settings of the synthesis that the manifest has as they are.
SETTINGS = {"images", "perturbation", "steps", "guidance_scale", "batch_size", "format"}


class Pipelines:
    """The pipelines of a corpus, opened one at a time.

    Args:
        models: Folder with one pipeline per category, or a joint one; see `sia_gen.sdas.loading`.
            For a collection, the folder with that of each data set at `<recipe>/diffusion`.
        classifier: Folder of the classifier, used if the recipe's guidance scale is not 0. A
            collection has one of each data set at `<recipe>/classifier/model` below `models`.
    """

    # Known once `start` was called.
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
        sizes = {folder: check_pipeline(folder, recipe) for folder, recipe in self.recipes.items()}
        (first, self.image_size), *others = sizes.items()
        for folder, size in others:
            if size != self.image_size:
                raise ModelError(
                    problem=f"the model in {folder} makes images of {size} pixels, the one in "
                    f"{first} of {self.image_size}.",
                    fix="Make the categories one by one with --category, each with its own --out.",
                )

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

        What the runtime leaves open stays as in a corpus that was begun. Only single samples are
        made by compiled networks.
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

    def hash(self, category: DatasetCategory, cache: HashCache) -> str:
        """Hashes all weights that decide the samples of a category."""
        return cache.model_hash(self.folder(category), self._classifier(category))

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


def synthesize(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    models: Path,
    out: Location,
    runtime: Runtime,
    *,
    maker: Maker | None = None,
    classifier: Path | None = None,
    shards: str | None = None,
    resume: bool = True,
) -> None:
    """Makes the shards of some categories, or those that are still missing.

    Args:
        categories: Those to make; categories already in the corpus stay.
        models: Folder of the pipelines; see `Pipelines`, also for the classifier.
        maker: Makes what the corpus holds; single samples if None.
        shards: `A:B` makes only the shards A to B - 1 of these categories.
        resume: Whether to keep the shards that are there; otherwise all are made again.
    """
    maker = maker or SampleMaker(recipe)
    plan = plan_corpus(categories, recipe.synthesis)
    wanted = choose_shards(plan, shards)
    names = {shard.name for shard in wanted}
    categories = [category for category in categories if category.name in names]
    accelerator, cache = runtime.accelerator(), HashCache(out / HASHES)
    main = accelerator.is_main_process
    pipelines = Pipelines(recipe, categories, models, classifier)
    pipelines.start(runtime, accelerator, maker.kind, out)
    # Before the weights are hashed, so that a pipeline that cannot be loaded is refused at once.
    manifest = _manifest(pipelines, maker, plan)
    hashes: list[dict[str, str]] = [{}]
    if main:
        # Reading all weights takes minutes if they are large and many: one process does it.
        hashes = [{category.name: pipelines.hash(category, cache) for category in categories}]
    broadcast_object_list(hashes)
    photographs = {category.name: maker.photographs(category.name) for category in categories}
    output = CorpusOutput(out, recipe, manifest, wanted, hashes[0], photographs, resume)
    output.check()
    with output.claim(["synthesis"], main=main):
        if main:
            with settling(out):
                cache.save(out / HASHES)
            for folder in pipelines.recipes:
                if reason := unready(folder / REPORT):
                    print(
                        f"warning: the model in {folder} is {reason}.", file=sys.stderr, flush=True
                    )
        accelerator.wait_for_everyone()
        missing = output.missing()
        # No process begins before all have looked at what is missing.
        accelerator.wait_for_everyone()
        mine = missing[accelerator.process_index :: accelerator.num_processes]
        _make_shards(mine, output, pipelines, maker)
        accelerator.wait_for_everyone()
    accelerator.wait_for_everyone()


def _manifest(pipelines: Pipelines, maker: Maker, plan: list[ShardPlan]) -> Manifest:
    settings = pipelines.recipe.synthesis
    scheduler = pipelines.load(pipelines.categories[0]).scheduler
    return Manifest(
        **recipe_fields(pipelines.recipe),
        **settings.model_dump(include=SETTINGS),
        strength=str(settings.strength),
        sampler=type(scheduler).__name__,
        precision=pipelines.accelerator.mixed_precision,
        compiled=pipelines.execution.compiled,
        channels_last=pipelines.execution.channels_last,
        image_size=pipelines.image_size,
        tile=maker.tile,
        kind=maker.kind,
        shards=plan,
    )


def _make_shards(
    shards: Sequence[ShardPlan], output: CorpusOutput, pipelines: Pipelines, maker: Maker
) -> None:
    if not shards:
        return
    settings, accelerator = output.recipe.synthesis, pipelines.accelerator
    by_name = {category.name: category for category in pipelines.categories}
    total, visible = sum(shard.samples for shard in shards), accelerator.is_main_process
    with (
        Progress("synthesizing", total, visible=visible) as progress,
        output.writer() as writer,
        explained_sampling(output.recipe),
    ):
        for name, of_category in groupby(shards, key=lambda shard: shard.name):
            pipeline = pipelines.prepared(by_name[name])
            if pipelines.execution.compiled:
                progress.say(f"{name}: {NOTICE}")
            maker.open(pipeline, name)
            with passes_timed(pipeline, settings, progress):
                for shard in of_category:
                    for indices in shard.batches(settings.batch_size):
                        made = maker.make(pipeline, shard, indices, output.models[name])
                        writer.put(shard, partial(made.encode, settings.format))
                        progress.advance(len(indices))
            # Frees the memory for the pipeline of the next category.
            del pipeline
            accelerator.free_memory()


def remake(
    recipe: CorpusRecipe,
    key: str,
    models: Path,
    out: Location,
    runtime: Runtime,
    *,
    maker: Maker | None = None,
    classifier: Path | None = None,
) -> list[Location]:
    """Makes one sample again, in the batch it had, so that it is equal pixel for pixel.

    The recipe is that of the corpus, which lies beside its manifest; the others are as in
    `synthesize`. Returns the files of the sample's members, such as `KEY.png` and `KEY.json`.
    """
    maker = maker or SampleMaker(recipe)
    category, shard, index = find_sample(recipe, key)
    pipelines = Pipelines(recipe, [category], models, classifier)
    pipelines.start(runtime, runtime.accelerator(), maker.kind)
    batches = shard.batches(recipe.synthesis.batch_size)
    indices = next(batch for batch in batches if index in batch)
    model = pipelines.hash(category, HashCache())
    with explained_sampling(recipe):
        made = maker.make(pipelines.prepared(category), shard, indices, model)
    members = made.encode(recipe.synthesis.format)[indices.index(index)]
    prepare_output(out)
    paths: list[Location] = []
    with working_on(out, key):
        for name, content in members.items():
            if isinstance(content, bytes):
                paths.append(out / f"{key}.{name}")
                with atomic_path(paths[-1]) as temporary:
                    temporary.write_bytes(content)
    return paths


def find_sample(recipe: CorpusRecipe, key: str) -> tuple[DatasetCategory, ShardPlan, int]:
    """Finds the category, shard and index of a sample by its key."""
    digits = key.rpartition("_")[2]
    index = int(digits) if digits.isdecimal() else -1
    for category in all_categories(recipe):
        for shard in plan_corpus([category], recipe.synthesis):
            if index in shard.indices and shard.key(index) == key:
                return category, shard, index
    first = all_categories(recipe)[0]
    example = f"{first.recipe.dataset}_{first.category}_{recipe.synthesis.images - 1:08d}"
    raise OptionError(
        problem=f"the corpus of recipe '{recipe.name}' has no sample '{key}'.",
        fix=f"A key is <dataset>_<category>_<8 digits>, up to {example} in its first category.",
    )
