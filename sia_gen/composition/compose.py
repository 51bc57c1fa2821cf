"""Writes triplets as shards, or as a tree of folders that other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sia_gen.composition.folders import require_folder, write_folders
from sia_gen.composition.triplets import Composer, TwinComposer
from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.manifest import Manifest
from sia_gen.corpus.output import CorpusOutput, recipe_fields
from sia_gen.corpus.plan import ShardPlan, plan_corpus, samples_by_name
from sia_gen.corpus.reading import read_synthetic, require_category
from sia_gen.corpus.schema import TRIPLETS, TWINS
from sia_gen.errors import CorpusError
from sia_gen.io.locations import Location
from sia_gen.runtime.progress import Progress

SECTIONS = ["foreground", "realnet"]


def compose(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    corpus: Location,
    out: Location,
    form: Literal["shards", "folder"],
    images: int | None,
) -> int:
    """Makes the triplets of some categories, or those that are still missing.

    Twins are triplets already: they are written as they are.

    Args:
        recipe: Says where anomalies may be, how opaque they are, and of which size.
        categories: Categories to make.
        root: Folder of the normal images.
        corpus: The synthetic images, or twins.
        out: Where the triplets go.
        form: Either WebDataset shards, or folders in the layout of MVTec AD.
        images: Triplets per category, and at most as many as there are twins; None for as many as
            the corpus has samples.

    Returns:
        Number of twins that were left out because `realnet.mask_area` excludes their masks.

    Raises:
        UserError: If images or shards are missing, or another corpus is in the way.
    """
    synthetic = read_synthetic(corpus)
    are_twins = synthetic.kind == TWINS
    if are_twins and form == "shards":
        raise CorpusError(
            problem=f"{corpus} holds twins: it has images, masks and normal images already.",
            fix="Use its shards as they are, or give '--format folder'.",
        )
    plan: list[ShardPlan] = []
    models: dict[str, str] = {}
    for category in categories:
        name = f"{recipe.dataset}.{category}"
        shards = require_category(corpus, synthetic, name)
        total = sum(shard.samples for shard in shards)
        count = min(images or total, total) if are_twins else images or total
        plan += _plan_triplets(recipe, category, count, synthetic.strength)
        models[name] = shards[0].model
    if form == "shards":
        manifest = _manifest(recipe, synthetic, images, plan)
        output = CorpusOutput(out, recipe, manifest, plan, models)
        output.check()
        with output.claim(SECTIONS):
            _write_shards(output, recipe, root, corpus)
        return 0
    folder = require_folder(out, categories, twins=are_twins)
    twins = {
        category: TwinComposer.of(recipe, category, corpus)
        for category in (categories if are_twins else ())
    }
    with claim_output(folder, recipe, SECTIONS, samples_by_name(plan)):
        write_folders(recipe, plan, root, corpus, folder, twins)
    return sum(composer.left_out for composer in twins.values())


def _plan_triplets(recipe: Recipe, category: str, images: int, strength: str) -> list[ShardPlan]:
    synthesis = recipe.synthesis.model_copy(update={"images": images, "strength": strength})
    return plan_corpus([DatasetCategory(recipe, category)], synthesis)


def _manifest(
    recipe: Recipe, synthetic: Manifest, images: int | None, plan: Sequence[ShardPlan]
) -> Manifest:
    """The manifest of the triplets: their images were sampled as those of the synthetic corpus."""
    own = {
        **recipe_fields(recipe),
        "images": images or synthetic.images,
        "format": "png",
        "image_size": recipe.realnet.image_size,
        "kind": TRIPLETS,
    }
    return synthetic.model_copy(update=own).with_shards(plan)


def _write_shards(output: CorpusOutput, recipe: Recipe, root: Path, corpus: Location) -> None:
    missing = output.missing()
    composer: Composer | None = None
    with (
        Progress("composing", sum(shard.samples for shard in missing)) as progress,
        output.writer() as writer,
    ):
        for shard in missing:
            if composer is None or composer.category != shard.category:
                # Frees the images of one category before those of the next are loaded.
                composer = None
                composer = Composer.of(recipe, shard.category, root, corpus)
            writer.begin(shard)
            for triplet in composer.triplets(shard):
                writer.put(triplet.encoded, 1)
                progress.advance()
