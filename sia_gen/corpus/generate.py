"""Makes a corpus, or one of its samples again: runs the SDAS pipelines and fills the shards.

CORPUS/
    recipe.yaml  manifest.json  README.md
    data/<dataset>/<category>/train-00000-of-0000K.tar
"""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory, all_categories
from sia_gen.corpus.manifest import HASHES, Manifest
from sia_gen.corpus.output import CorpusOutput, recipe_fields
from sia_gen.corpus.pipelines import Pipelines
from sia_gen.corpus.plan import ShardPlan, choose_shards, plan_corpus
from sia_gen.corpus.sampling import Maker, SampleMaker, explained_sampling
from sia_gen.corpus.schema import Kind
from sia_gen.errors import OptionError
from sia_gen.io.files import atomic_path, prepare_output
from sia_gen.io.locations import Location
from sia_gen.io.locks import settling, working_on
from sia_gen.runtime.compilation import NOTICE
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import HashCache


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
        recipe: Says how many samples, of which strength, in how many steps.
        categories: Those to make; categories already in the corpus stay.
        models: Folder of the pipelines; see `sia_gen.corpus.pipelines`.
        out: Folder or URL of the corpus.
        runtime: Device, precision, and how networks compute.
        maker: Makes what the corpus holds; single samples if None.
        classifier: Folder of the classifier, for a recipe with a guidance scale.
        shards: `A:B` makes only the shards A to B - 1 of these categories.
        resume: Whether to keep the shards that are there; otherwise all are made again.

    Raises:
        UserError: If a model is missing or the folder holds another corpus; nothing has been
            written then.
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
    manifest, hashes = _manifest(pipelines, maker.kind, plan), pipelines.hashes(cache)
    output = CorpusOutput(out, recipe, manifest, wanted, hashes, resume)
    output.check()
    with output.claim(["synthesis"], main=main):
        if main:
            with settling(out):
                cache.save(out / HASHES)
            pipelines.warn_of_unready()
        accelerator.wait_for_everyone()
        missing = output.missing()
        # No process begins before all have looked at what is missing.
        accelerator.wait_for_everyone()
        mine = missing[accelerator.process_index :: accelerator.num_processes]
        _make_shards(mine, output, pipelines, maker)
        accelerator.wait_for_everyone()
    accelerator.wait_for_everyone()


def _manifest(pipelines: Pipelines, kind: Kind, plan: list[ShardPlan]) -> Manifest:
    settings = pipelines.recipe.synthesis
    return Manifest(
        **recipe_fields(pipelines.recipe),
        images=settings.images,
        perturbation=settings.perturbation,
        strength=str(settings.strength),
        steps=settings.steps,
        sampler=pipelines.sampler,
        guidance_scale=settings.guidance_scale,
        batch_size=settings.batch_size,
        precision=pipelines.accelerator.mixed_precision,
        compiled=pipelines.execution.compiled,
        channels_last=pipelines.execution.channels_last,
        format=settings.format,
        image_size=pipelines.image_size,
        kind=kind,
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
            for shard in of_category:
                writer.begin(shard)
                for indices in shard.batches(settings.batch_size):
                    made = maker.make(pipeline, shard, indices, output.models[name])
                    writer.put(partial(made.encode, settings.format), len(indices))
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

    Args:
        recipe: The recipe of the corpus, which lies beside its manifest.
        key: Key of the sample, `<dataset>_<category>_<index>`.
        models: See `synthesize`, also for `runtime`, `maker` and `classifier`.
        out: Folder for the members of the sample.

    Returns:
        The files of its members, such as `KEY.png` and `KEY.json`.

    Raises:
        UserError: If there is no such sample, or no model.
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
    """Finds the category, shard and index of a sample.

    Raises:
        OptionError: If the corpus has no such sample.
    """
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
