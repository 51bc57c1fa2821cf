"""Makes a corpus: runs the SDAS pipelines and fills shard after shard, in any number of processes.

CORPUS/
    recipe.yaml  manifest.json  README.md
    data/<dataset>/<category>/train-00000-of-0000K.tar
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from accelerate import Accelerator

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
from sia_gen.corpus.execution import corpus_execution
from sia_gen.corpus.manifest import present_records, write_record
from sia_gen.corpus.models import Sources
from sia_gen.corpus.plan import (
    ShardPlan,
    choose_shards,
    plan_corpus,
    samples_by_name,
    shards_of_process,
)
from sia_gen.corpus.preparation import Preparation, announce, check_same_origin, prepare
from sia_gen.corpus.sampling import Maker, SampleMaker, explained_sampling, prepare_pipeline
from sia_gen.corpus.shards import ShardFile
from sia_gen.corpus.writing import ShardWriter
from sia_gen.io.locations import Location
from sia_gen.runtime.compilation import NOTICE
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress


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
        models: Folder of the pipelines; see `sia_gen.corpus.models`.
        out: Folder or URL of the corpus.
        runtime: Device and precision.
        maker: Makes what the corpus holds; single samples if None.
        classifier: Folder of the classifier, for a recipe with a guidance scale.
        shards: `A:B` makes the shards A to B - 1 of these categories alone.
        resume: Whether to keep the shards that are there; otherwise all are made again.

    Raises:
        UserError: If a model is missing or the folder holds another corpus; nothing has been
            written then.
    """
    maker = maker or SampleMaker(recipe)
    all_shards = plan_corpus(categories, recipe.synthesis)
    wanted = choose_shards(all_shards, shards)
    needed = [one for one in categories if one.name in {shard.name for shard in wanted}]
    accelerator = runtime.accelerator()
    sources = Sources(recipe, models, classifier)
    execution = corpus_execution(
        runtime, recipe, maker.kind, sources.load(needed[0]).unet, accelerator, out
    )
    prepared = prepare(recipe, needed, sources, out, accelerator, maker.kind, execution=execution)
    again = [] if resume else wanted
    check_same_origin(out, wanted, prepared.hashes, again)
    main, parts = accelerator.is_main_process, samples_by_name(wanted)
    with claim_output(out, recipe, ["synthesis"], parts, main=main):
        if main:
            # Whoever held these shards until now may have made some.
            check_same_origin(out, wanted, prepared.hashes, again)
            announce(recipe, prepared.header, all_shards, out, again=again, hashes=prepared.cache)
            sources.warn_of_unready(needed)
        accelerator.wait_for_everyone()
        there = present_records(out)
        missing = [shard for shard in wanted if shard.path not in there]
        # Nobody begins before all have looked at what is missing.
        accelerator.wait_for_everyone()
        mine = shards_of_process(missing, accelerator.process_index, accelerator.num_processes)
        try:
            make_shards(recipe, needed, mine, sources, prepared, out, accelerator, maker)
            accelerator.wait_for_everyone()
        finally:
            if main:
                announce(recipe, prepared.header, all_shards, out)
        accelerator.wait_for_everyone()


def make_shards(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    shards: Sequence[ShardPlan],
    sources: Sources,
    prepared: Preparation,
    out: Location,
    accelerator: Accelerator,
    maker: Maker,
) -> None:
    """Makes the shards of this process, one after another."""
    if not shards:
        return

    def written(shard: ShardPlan, file: ShardFile) -> None:
        write_record(out, shard, file, prepared.hashes[shard.name])

    by_name = {category.name: category for category in categories}
    total, visible = sum(shard.samples for shard in shards), accelerator.is_main_process
    with (
        Progress("synthesizing", total, visible=visible) as progress,
        ShardWriter(out, written) as writer,
        explained_sampling(recipe),
    ):
        for name, of_category in groupby(shards, key=lambda shard: shard.name):
            pipeline = sources.load(by_name[name])
            prepare_pipeline(pipeline, accelerator, prepared.execution)
            if prepared.execution.compiled:
                progress.say(f"{name}: {NOTICE}")
            for shard in of_category:
                writer.begin(shard)
                for indices in shard.batches(recipe.synthesis.batch_size):
                    made = maker.make(pipeline, shard, indices, prepared.hashes[name])
                    writer.put(partial(made.encode, recipe.synthesis.format), len(indices))
                    progress.advance(len(indices))
            # The next one is loaded into the memory that this one leaves.
            del pipeline
            accelerator.free_memory()
