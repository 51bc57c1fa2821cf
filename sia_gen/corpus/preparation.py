"""Everything that is settled before the first sample of a corpus is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sia_gen.config.recipe import CorpusRecipe, DatasetCategory, all_categories
from sia_gen.corpus.card import write_card
from sia_gen.corpus.entries import CorpusHeader
from sia_gen.corpus.manifest import (
    HASHES,
    MANIFEST,
    check_same_corpus,
    known_shards,
    manifest_entries,
    only_present,
    present_records,
    read_manifest,
    read_records,
    record_path,
    write_manifest,
)
from sia_gen.corpus.models import Sources
from sia_gen.corpus.plan import ShardPlan
from sia_gen.errors import OutputError
from sia_gen.io.locations import Location
from sia_gen.io.locks import settling
from sia_gen.runtime.compilation import Execution
from sia_gen.runtime.device import environment
from sia_gen.sdas.loading import HashCache
from sia_gen.version import __version__


@dataclass(frozen=True)
class Preparation:
    """What is known of a corpus before it is made.

    Attributes:
        header: What all its shards have in common.
        hashes: For each category, by name, the hash of the weights that make it.
        cache: Keeps these hashes.
        execution: Of the networks.
    """

    header: dict[str, Any]
    hashes: dict[str, str]
    cache: HashCache
    execution: Execution


def prepare(
    recipe: CorpusRecipe,
    categories: Sequence[DatasetCategory],
    sources: Sources,
    out: Location,
    accelerator: Accelerator,
    kind: Literal["samples", "twins"],
    *,
    execution: Execution,
) -> Preparation:
    """Opens the models and holds what is wanted against what is there; writes nothing.

    Args:
        recipe: Of the corpus.
        categories: Those to make.
        sources: The models.
        out: Where the corpus is.
        accelerator: Of the run.
        kind: What the corpus holds.
        execution: Of the networks.

    Raises:
        ModelError: If a model is missing, damaged, or makes images of another size.
        OutputError: If another corpus is there.
    """
    image_size = sources.image_size(categories)
    sampler = type(sources.load(categories[0]).scheduler).__name__
    header = corpus_header(recipe, image_size, sampler, accelerator, kind, execution=execution)
    check_same_corpus(out, header)
    if (out / MANIFEST).is_file() and read_manifest(out).get("channels_last") is None:
        # What an older corpus does not tell nobody knows of all of it from now on.
        header["channels_last"] = None
    cache = HashCache(out / HASHES)
    hashes: list[dict[str, str]] = [{}]
    if accelerator.is_main_process:
        # Reading all weights takes minutes if they are large and many: one process is enough.
        hashes = [{category.name: sources.hash(category, cache) for category in categories}]
    broadcast_object_list(hashes)
    return Preparation(header, hashes[0], cache, execution)


def corpus_header(
    recipe: CorpusRecipe,
    image_size: int,
    sampler: str,
    accelerator: Accelerator,
    kind: Literal["samples", "twins"],
    *,
    execution: Execution,
) -> dict[str, Any]:
    """What all shards have in common."""
    settings = recipe.synthesis
    return asdict(
        CorpusHeader(
            sia_gen=__version__,
            recipe=recipe.hash(),
            name=recipe.name,
            seed=recipe.seed,
            images=settings.images,
            strength=str(settings.strength),
            steps=settings.steps,
            sampler=sampler,
            guidance_scale=settings.guidance_scale,
            batch_size=settings.batch_size,
            precision=accelerator.mixed_precision,
            compiled=execution.compiled,
            channels_last=execution.channels_last,
            shard_size=settings.shard_size,
            format=settings.format,
            mode=recipe.mode,
            image_size=image_size,
            versions=environment(),
            kind=kind,
        )
    )


def announce(
    recipe: CorpusRecipe,
    header: dict[str, Any],
    shards: Sequence[ShardPlan],
    out: Location,
    *,
    again: Sequence[ShardPlan] = (),
    hashes: HashCache | None = None,
) -> None:
    """Writes what a corpus tells of itself: the manifest and the card.

    Args:
        recipe: Of the corpus.
        header: What all shards have in common.
        shards: Those of this run; what others make or made stays in the manifest.
        out: Where the corpus is.
        again: Those to make again: they are forgotten.
        hashes: Of the models, to be kept.

    Raises:
        OutputError: If another corpus is there. Only who holds the folder can be sure of that:
            another process may have begun one since `prepare`.
    """
    with settling(out):
        check_same_corpus(out, header)
        for shard in again:
            record_path(out, shard).unlink(missing_ok=True)
        if hashes is not None:
            hashes.save(out / HASHES)
        entries = manifest_entries(out)
        records = read_records(out, entries)
        plan = ordered(recipe, [*known_shards(entries, records), *shards])
        forgotten = {shard.path for shard in again}
        kept = {path: record for path, record in records.items() if path not in forgotten}
        write_manifest(out, header, plan, only_present(out, kept))
        write_card(out, recipe, header, plan)


def ordered(recipe: CorpusRecipe, shards: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The shards in the recipe's order, each once; of two plans of a shard the later counts."""
    names = [category.name for category in all_categories(recipe)]
    by_path = {shard.path: shard for shard in shards}
    return sorted(by_path.values(), key=lambda shard: (names.index(shard.name), shard.first))


def check_same_origin(
    out: Location,
    shards: Sequence[ShardPlan],
    hashes: dict[str, str],
    again: Sequence[ShardPlan] = (),
) -> None:
    """Refuses to go on with another model or strength than a category was begun with.

    Args:
        out: Where the corpus is.
        shards: Those to make.
        hashes: Of the models that make them, by the names of their categories.
        again: Those that are made again, whatever made them before.

    Raises:
        OutputError: If any shard of the categories of these shards was made so.
    """
    strengths = {shard.name: shard.strength for shard in shards}
    replaced = {shard.path for shard in again}
    for record in present_records(out).values():
        name = f"{record['dataset']}.{record['category']}"
        if name not in strengths or record["path"] in replaced:
            continue
        there, wanted = record["model"], hashes[name]
        if there != wanted:
            difference = f"another model ({there[:12]}, not {wanted[:12]})"
        elif record["strength"] != strengths[name]:
            difference = f"another strength ({record['strength']}, not {strengths[name]})"
        else:
            continue
        raise OutputError(
            problem=f"{out} holds samples of '{record['category']}' by {difference}.",
            fix="Choose another folder with --out, or make them again with --no-resume.",
        )
