"""Corpora to be published: their shards, then what tells of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub.hf_api import RepoFile

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.corpus.card import CARD, PICTURE, write_card
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
from sia_gen.corpus.shards import index_name
from sia_gen.corpus.verify import find_problems, not_intact
from sia_gen.errors import CorpusError, HubError
from sia_gen.hub.measure import measure
from sia_gen.hub.repository import THEIRS, Repository, RepositoryKind
from sia_gen.io.files import atomic_path, sha256
from sia_gen.io.json import parse_json


class CorpusPublication:
    """A corpus on its way to the Hub.

    Args:
        folder: Of the corpus.

    Raises:
        CorpusError: If shards are missing.
    """

    kind: RepositoryKind = "dataset"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = load_corpus_recipe(folder / RECIPE)
        manifest, there = read_corpus(folder), present_records(folder)
        missing = [shard.path for shard in manifest.shards if shard.path not in there]
        if missing or not manifest.shards:
            raise CorpusError(
                problem=f"{folder} is not finished: {len(missing)} of {len(manifest.shards)} "
                f"shards are missing{', such as ' + missing[0] if missing else ''}.",
                fix="Run 'sia-gen synthesize' again: it makes what is missing.",
            )
        self.manifest = manifest
        self.large = {shard.path: shard.sha256 for shard in manifest.records}
        indexes = [index_name(shard) for shard in manifest.shards]
        self.large |= {path: sha256(folder / path) for path in indexes if (folder / path).is_file()}
        self.small = [RECIPE, PICTURE, CARD, MANIFEST]

    @property
    def title(self) -> str:
        """What is sent, in a few words."""
        return f"{self.manifest.samples} samples of {self.recipe.title}"

    @property
    def claim(self) -> dict[str, bytes | Path]:
        """A manifest of nothing but missing shards: tells whose a half-filled repository is."""
        content = self.manifest.to_json()
        for shard in content["shards"]:
            shard["state"] = MISSING
        return {MANIFEST: json.dumps(content, indent=2).encode()}

    def check(self, repository: Repository, files: Mapping[str, RepoFile]) -> None:
        """Refuses a repository that holds anything but this corpus, or a part of it.

        Raises:
            HubError: If it does; it names what is there.
        """
        difference = None
        if MANIFEST in files:
            difference = self.difference(repository.read(MANIFEST))
        expected = {*self.large, *self.small, *THEIRS}
        foreign = [path for path in files if path not in expected]
        # Beside a corpus people may put what they like, but no shards.
        if MANIFEST in files:
            foreign = [path for path in foreign if path.endswith(".tar")]
        if difference is None and foreign:
            difference = f"{foreign[0]}, which is not of this corpus"
        if difference is not None:
            raise HubError(
                problem=f"{repository} holds something else: {difference}.",
                fix="Choose another repository, or delete that one on the Hub.",
            )

    def difference(self, content: bytes) -> str | None:
        """What makes the manifest on the Hub that of another corpus."""
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
            for field in ("model", "strength"):
                if shard.get(field) != getattr(known, field):
                    return f"samples of {known.category} by another {field}"
        return None

    def prepare(self, repository: Repository, target: Path) -> None:
        """Verifies the corpus, measures it, and writes what tells of it into `target`.

        Raises:
            CorpusError: If it is not intact.
        """
        if problems := find_problems(self.folder):
            print(*problems, sep="\n", file=sys.stderr)
            raise not_intact(self.folder, problems)
        # The manifest may not tell yet of all who worked on the corpus.
        if target == self.folder:
            settle_manifest(self.folder)
        elif self.manifest != read_manifest(self.folder):
            write_manifest(target, self.manifest)
        facts, picture = measure(self.folder, self.manifest)
        with atomic_path(target / PICTURE) as temporary:
            picture.save(temporary, format="PNG")
        write_card(target, self.recipe, self.manifest, facts=facts, repository=repository.name)
