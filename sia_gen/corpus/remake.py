"""Makes any one sample of a corpus again."""

from __future__ import annotations

import re
from pathlib import Path

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory, all_categories
from sia_gen.corpus.execution import corpus_execution
from sia_gen.corpus.models import Sources
from sia_gen.corpus.plan import ShardPlan, plan_corpus
from sia_gen.corpus.sampling import Maker, SampleMaker, explained_sampling, prepare_pipeline
from sia_gen.errors import OptionError
from sia_gen.io.files import atomic_path, prepare_output
from sia_gen.io.locations import Location
from sia_gen.io.locks import working_on
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import HashCache


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
    """Makes one sample, in the batch it had, so that it is equal pixel for pixel.

    Args:
        recipe: Of the corpus; it lies beside its manifest.
        key: Of the sample, `<dataset>_<category>_<index>`.
        models: Folder of the pipelines; see `sia_gen.corpus.models`.
        out: Folder for its members.
        runtime: Device and precision.
        maker: Makes what the corpus holds; single samples if None.
        classifier: Folder of the classifier, for a recipe with a guidance scale.

    Returns:
        The files of its members, such as `KEY.png` and `KEY.json`.

    Raises:
        UserError: If there is no such sample, or no model.
    """
    category, shard, index = find_sample(recipe, key)
    sources = Sources(recipe, models, classifier)
    sources.image_size([category])
    accelerator = runtime.accelerator()
    pipeline = sources.load(category)
    maker = maker or SampleMaker(recipe)
    execution = corpus_execution(runtime, recipe, maker.kind, pipeline.unet, accelerator)
    prepare_pipeline(pipeline, accelerator, execution)
    indices = next(some for some in shard.batches(recipe.synthesis.batch_size) if index in some)
    model = sources.hash(category, HashCache())
    with explained_sampling(recipe):
        made = maker.make(pipeline, shard, indices, model)
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
    """The category, shard and index of a sample.

    Raises:
        OptionError: If the corpus has no such sample.
    """
    name, _, number = key.rpartition("_")
    for category in all_categories(recipe):
        dataset = category.recipe.dataset
        if name != f"{dataset}_{category.category}" or not re.fullmatch("[0-9]{8}", number):
            continue
        for shard in plan_corpus([category], recipe.synthesis):
            if int(number) in shard.indices:
                return category, shard, int(number)
    first = all_categories(recipe)[0]
    example = f"{first.recipe.dataset}_{first.category}_{recipe.synthesis.images - 1:08d}"
    raise OptionError(
        problem=f"the corpus of recipe '{recipe.name}' has no sample '{key}'.",
        fix=f"A key is <dataset>_<category>_<8 digits>, up to {example} in its first category.",
    )
