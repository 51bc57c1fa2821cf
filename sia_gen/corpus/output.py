"""The output folder of a corpus: who may add shards to it, its manifest and its card."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import CorpusRecipe, all_categories
from sia_gen.corpus.card import write_card
from sia_gen.corpus.manifest import (
    MANIFEST,
    Manifest,
    is_present,
    known_shards,
    present_records,
    read_manifest,
    record_path,
    write_manifest,
    write_record,
)
from sia_gen.corpus.plan import ShardPlan, samples_by_name
from sia_gen.corpus.shards import ShardIndex, ShardWriter
from sia_gen.errors import OutputError
from sia_gen.io.files import Location
from sia_gen.io.locks import settling
from sia_gen.runtime.device import environment
from sia_gen.version import __version__


def recipe_fields(recipe: CorpusRecipe) -> dict[str, Any]:
    """Returns the fields of a manifest that follow from a recipe and the versions of this run."""
    return {
        "sia_gen": __version__,
        "recipe": recipe.hash(),
        "name": recipe.name,
        "seed": recipe.seed,
        "shard_size": recipe.synthesis.shard_size,
        "mode": recipe.mode,
        "versions": environment(),
    }


@dataclass(frozen=True)
class CorpusOutput:
    """A corpus to which this run adds shards."""

    folder: Location
    recipe: CorpusRecipe
    manifest: Manifest  # of all shards of the categories of this run
    wanted: Sequence[ShardPlan]  # the shards of this run
    models: dict[str, str]  # the hash of the weights that make each of its categories, by name
    # The hash of the photographs that samples of a category start from, if they do.
    photographs: dict[str, str | None] = field(default_factory=dict)
    resume: bool = True  # otherwise wanted shards that are there are made again

    def check(self) -> None:
        """Refuses to mix two corpora, or samples of two models or strengths in one category."""
        self._check_corpus()
        planned = {shard.name: shard for shard in self.wanted}
        replaced = set() if self.resume else {shard.path for shard in self.wanted}
        for record in present_records(self.folder).values():
            if record.name not in planned or record.path in replaced:
                continue
            model, shard = self.models[record.name], planned[record.name]
            photographs = self.photographs.get(record.name)
            if record.model != model:
                difference = f"another model ({record.model[:12]}, not {model[:12]})"
            elif photographs is not None and record.photographs not in (None, photographs):
                difference = "other photographs: some were added, removed or changed since"
            elif list(record.strengths) != list(shard.strengths):
                kinds, others = ", ".join(record.strengths), ", ".join(shard.strengths)
                difference = f"another perturbation ({kinds}, not {others})"
            elif record.strengths != shard.strengths:
                difference = f"another strength ({record.strength}, not {shard.strength})"
            else:
                continue
            raise OutputError(
                problem=f"{self.folder} holds samples of '{record.category}' by {difference}.",
                fix="Choose another folder with --out, or make them again with --no-resume.",
            )

    def _check_corpus(self) -> None:
        if not (self.folder / MANIFEST).is_file():
            return
        difference = read_manifest(self.folder).difference(self.manifest)
        if difference is not None:
            raise OutputError(
                problem=f"{self.folder} already holds a corpus with another {difference}.",
                fix="Choose another folder with --out, or delete it.",
            )
        names = {category.name for category in all_categories(self.recipe)}
        for shard in known_shards(self.folder):
            if shard.name not in names:
                raise OutputError(
                    problem=f"{self.folder} holds '{shard.name}', which the recipe lacks.",
                    fix="Add the category to the recipe, or choose another folder with --out.",
                )

    @contextmanager
    def claim(self, sections: Sequence[str], *, main: bool = True) -> Iterator[None]:
        """Holds the wanted shards, and writes the manifest and the card before and after.

        The samples depend on some `sections` of the recipe.
        """
        parts = samples_by_name(self.wanted)
        with claim_output(self.folder, self.recipe, sections, parts, main=main):
            if main:
                # Another process may have written some of these shards.
                self.check()
                self._write_manifest(forget=not self.resume)
            try:
                yield
            finally:
                if main:
                    self._write_manifest()

    def _write_manifest(self, *, forget: bool = False) -> None:
        """Writes the manifest and the card, and may delete the records of the wanted shards."""
        names = [category.name for category in all_categories(self.recipe)]
        with settling(self.folder):
            # Another process may have begun another corpus since the last look at the folder.
            self._check_corpus()
            known = known_shards(self.folder)
            by_path = {shard.path: shard.planned() for shard in known}
            by_path |= {shard.path: shard for shard in self.manifest.shards}
            by_path |= {shard.path: shard for shard in known if is_present(self.folder, shard)}
            for shard in self.wanted if forget else ():
                record_path(self.folder, shard).unlink(missing_ok=True)
                by_path[shard.path] = shard
            shards = sorted(by_path.values(), key=lambda one: (names.index(one.name), one.first))
            manifest = self.manifest.with_shards(shards)
            write_manifest(self.folder, manifest)
            write_card(self.folder, self.recipe, manifest)

    def missing(self) -> list[ShardPlan]:
        """Returns the wanted shards that are not there."""
        there = present_records(self.folder)
        return [shard for shard in self.wanted if shard.path not in there]

    def writer(self) -> ShardWriter:
        """Writes and records shards."""

        def record(shard: ShardPlan, index: ShardIndex) -> None:
            photographs = self.photographs.get(shard.name)
            write_record(self.folder, shard, index, self.models[shard.name], photographs)

        return ShardWriter(self.folder, record)
