"""Publishes corpora: their shards, then the card with what was measured of the samples."""

import json
import sys
from collections.abc import Sequence
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path

import numpy as np
from PIL import Image

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.corpus.card import CARD, PICTURE, CategoryFacts, write_card
from sia_gen.corpus.cutting import tile_of
from sia_gen.corpus.manifest import (
    MANIFEST,
    Manifest,
    present_records,
    read_corpus,
    read_manifest,
    settle_manifest,
    write_manifest,
)
from sia_gen.corpus.plan import MISSING
from sia_gen.corpus.reading import read_whole
from sia_gen.corpus.schema import TWINS
from sia_gen.corpus.shards import index_name
from sia_gen.corpus.verify import find_problems, not_intact
from sia_gen.errors import CorpusError
from sia_gen.hub.repository import THEIRS, Publication, RemoteFiles, Repository
from sia_gen.inspection.page import sample_statistics
from sia_gen.inspection.survey import evenly_spaced, sample_pixels
from sia_gen.io.files import Location, atomic_path, parse_json, sha256
from sia_gen.report.pictures import contact_sheet
from sia_gen.runtime.progress import in_percent

# Samples of a category to measure; they are independent, so the first ones represent all.
EXAMINED = 256
COLUMNS = 8


class CorpusPublication(Publication):
    """A finished corpus on its way to the Hub; `CorpusError` if shards are missing."""

    kind = "dataset"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest, present = read_corpus(folder), present_records(folder)
        self.recipe = load_corpus_recipe(folder / RECIPE)
        shards = self.manifest.shards
        missing = [shard.path for shard in shards if shard.path not in present]
        if missing or not shards:
            raise CorpusError(
                problem=f"{folder} is not finished: {len(missing)} of {len(shards)} "
                f"shards are missing{', such as ' + missing[0] if missing else ''}.",
                fix="Run 'sia-gen synthesize' again: it makes the missing shards.",
            )
        self.title = f"{self.manifest.samples} samples of {self.recipe.title}"
        self.large = {shard.path: shard.sha256 for shard in self.manifest.records}
        indexes = [index_name(shard) for shard in shards]
        self.large |= {path: sha256(folder / path) for path in indexes if (folder / path).is_file()}
        self.small = [RECIPE, PICTURE, CARD, MANIFEST]
        # A manifest whose shards are all missing.
        claim = self.manifest.to_json()
        for shard in claim["shards"]:
            shard["state"] = MISSING
        self.claim = {MANIFEST: json.dumps(claim, indent=2).encode()}

    def foreign(self, repository: Repository, files: RemoteFiles) -> str | None:
        """Describes what the repository holds besides a part of this corpus."""
        known = {*self.large, *self.small, *THEIRS}
        others = [path for path in files if path not in known]
        difference = None
        if MANIFEST in files:
            difference = self._difference(repository.read(MANIFEST))
            # People may add any files to a corpus, but no shards.
            others = [path for path in others if path.endswith(".tar")]
        if difference is None and others:
            difference = f"{others[0]}, which does not belong to this corpus"
        return difference

    def prepare(self, repository: str, target: Path) -> None:
        """Verifies and measures the corpus, and writes manifest, picture and card."""
        if problems := find_problems(self.folder):
            print(*problems, sep="\n", file=sys.stderr)
            raise not_intact(self.folder, problems)
        # The manifest may lack the records of some processes that worked on the corpus.
        if target == self.folder:
            settle_manifest(self.folder)
        elif self.manifest != read_manifest(self.folder):
            write_manifest(target, self.manifest)
        facts, picture = _measure(self.folder, self.manifest)
        with atomic_path(target / PICTURE) as temporary:
            picture.save(temporary, format="PNG")
        write_card(target, self.recipe, self.manifest, facts=facts, repository=repository)

    def _difference(self, content: bytes) -> str | None:
        """Describes how the manifest on the Hub differs from one of this corpus."""
        try:
            remote = parse_json(content)
            different = Manifest.parse(remote).difference(self.manifest)
        except ValueError:
            return f"a {MANIFEST} that cannot be read"
        if different is not None:
            return f"a corpus with another {different}"
        ours = {shard.path: shard for shard in self.manifest.records}
        for shard in remote["shards"]:
            known = ours.get(shard["path"])
            if known is None:
                return f"a corpus with {shard['path']}, which this one lacks"
            # A claim has the models of shards that are still missing.
            for field, name in {"model": "model", "strengths": "strength"}.items():
                if shard.get(field) != getattr(known, field):
                    return f"samples of {known.category} by another {name}"
        return None


def _measure(corpus: Location, manifest: Manifest) -> tuple[list[CategoryFacts], Image.Image]:
    """Returns facts about every category, and a picture with rows of samples, weakest first."""
    form, facts, rows = manifest.form, [], []
    for name, group in groupby(manifest.records, key=attrgetter("name")):
        shards = list(group)
        every = chain.from_iterable(read_whole(corpus, shard, form) for shard in shards)
        tiles = (tile_of(sample, form) for sample in every)
        samples = sorted(islice(tiles, EXAMINED), key=lambda sample: float(sample[0]["strength"]))
        shown = [samples[place] for place in evenly_spaced(COLUMNS, len(samples))]
        measured = sample_statistics(sample_pixels(samples, form))
        if form.kind == TWINS:
            measured |= mask_statistics([metadata["mask_area"] for metadata, _ in samples])
        facts.append(
            CategoryFacts(
                name=name,
                samples=sum(shard.samples for shard in shards),
                bytes=sum(shard.bytes for shard in shards),
                model=shards[0].model,
                measured=measured,
                shown=[metadata["strength"] for metadata, _ in shown],
            )
        )
        rows += [[images[member] for _, images in shown] for member in form.images]
    return facts, contact_sheet(rows)


def mask_statistics(areas: Sequence[float]) -> dict[str, str]:
    """Returns figures of masks by their names in words, from the shares that they cover."""
    quartiles = np.quantile(areas, (0.25, 0.5, 0.75))
    return {
        "area of masks: mean": in_percent(float(np.mean(areas)), 1),
        "its quartiles": ", ".join(in_percent(value, 1) for value in quartiles),
        "empty masks": str(sum(area == 0 for area in areas)),
    }
