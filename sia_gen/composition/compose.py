"""Writes triplets as shards, or as a tree of folders that other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from sia_gen.composition.folders import require_folder, write_folders
from sia_gen.composition.triplets import Composer
from sia_gen.composition.twins import TwinComposer
from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.entries import CorpusHeader
from sia_gen.corpus.manifest import (
    UNTOLD,
    check_same_corpus,
    present_records,
    write_record,
)
from sia_gen.corpus.plan import ShardPlan, plan_corpus, samples_by_name
from sia_gen.corpus.preparation import announce, check_same_origin
from sia_gen.corpus.reading import read_synthetic, require_category
from sia_gen.corpus.schema import TRIPLETS, TWINS
from sia_gen.corpus.shards import ShardFile
from sia_gen.corpus.writing import ShardWriter
from sia_gen.errors import CorpusError
from sia_gen.io.locations import Location
from sia_gen.runtime.device import environment
from sia_gen.runtime.progress import Progress
from sia_gen.version import __version__


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
        categories: Those to make.
        root: Folder of the normal images.
        corpus: The synthetic images, or twins.
        out: Where the triplets go.
        form: As WebDataset shards, or as folders in the layout of MVTec AD.
        images: Triplets per category; as many as the corpus has samples when None, and of twins
            at most so many.

    Returns:
        How many twins were left out, since their masks cover less or more than
        `realnet.mask_area` says.

    Raises:
        UserError: If images or shards are missing, or another corpus is in the way.
    """
    header = read_synthetic(corpus)
    are_twins = header["kind"] == TWINS
    if are_twins and form == "shards":
        raise CorpusError(
            problem=f"{corpus} holds twins: it has images, masks and normal images already.",
            fix="Use its shards as they are, or give '--format folder'.",
        )
    plan, models = [], {}
    for category in categories:
        shards = require_category(corpus, header, recipe.dataset, category)
        total = sum(shard["samples"] for shard in shards)
        count = min(images or total, total) if are_twins else images or total
        plan += plan_triplets(recipe, category, count, header["strength"])
        models[f"{recipe.dataset}.{category}"] = shards[0]["model"]
    if form == "folder":
        folder = require_folder(out, categories, twins=are_twins)
        twins = {
            category: TwinComposer.of(recipe, category, corpus)
            for category in (categories if are_twins else ())
        }
        with claim_output(folder, recipe, ["foreground", "realnet"], samples_by_name(plan)):
            write_folders(recipe, plan, root, corpus, folder, twins)
        return sum(composer.left_out for composer in twins.values())
    triplet_header = header_of(recipe, header, images)
    check_same_corpus(out, triplet_header)
    check_same_origin(out, plan, models)
    with claim_output(out, recipe, ["foreground", "realnet"], samples_by_name(plan)):
        # Whoever held these shards until now may have made some.
        check_same_origin(out, plan, models)
        announce(recipe, triplet_header, plan, out)
        try:
            write_shards(recipe, plan, models, root, corpus, out)
        finally:
            announce(recipe, triplet_header, plan, out)
    return 0


def plan_triplets(recipe: Recipe, category: str, images: int, strength: str) -> list[ShardPlan]:
    """The shards of a category's triplets."""
    synthesis = recipe.synthesis.model_copy(update={"images": images, "strength": strength})
    return plan_corpus([DatasetCategory(recipe, category)], synthesis)


def header_of(recipe: Recipe, source: dict[str, Any], images: int | None) -> dict[str, Any]:
    """What all shards of triplets have in common."""
    told = {**UNTOLD, **source}
    header = CorpusHeader(
        sia_gen=__version__,
        recipe=recipe.hash(),
        name=recipe.name,
        seed=recipe.seed,
        images=images or source["images"],
        strength=source["strength"],
        steps=source["steps"],
        sampler=source["sampler"],
        guidance_scale=source["guidance_scale"],
        batch_size=source["batch_size"],
        precision=source["precision"],
        compiled=told["compiled"],
        channels_last=told["channels_last"],
        shard_size=recipe.synthesis.shard_size,
        format="png",
        mode=recipe.mode,
        image_size=recipe.realnet.image_size,
        versions=environment(),
        kind=TRIPLETS,
    )
    return asdict(header)


def write_shards(
    recipe: Recipe,
    plan: Sequence[ShardPlan],
    models: dict[str, str],
    root: Path,
    corpus: Location,
    out: Location,
) -> None:
    """Writes the shards that are missing."""

    def written(shard: ShardPlan, file: ShardFile) -> None:
        write_record(out, shard, file, models[shard.name])

    there = present_records(out)
    missing = [shard for shard in plan if shard.path not in there]
    composer: Composer | None = None
    with (
        Progress("composing", sum(shard.samples for shard in missing)) as progress,
        ShardWriter(out, written) as writer,
    ):
        for shard in missing:
            if composer is None or composer.category != shard.category:
                # The images of the next category take their place.
                composer = None
                composer = Composer.of(recipe, shard.category, root, corpus)
            writer.begin(shard)
            for triplet in composer.triplets(shard):
                writer.put(triplet.encoded, 1)
                progress.advance()
