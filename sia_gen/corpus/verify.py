"""Verifies a corpus: reads every shard again and compares it with the manifest."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sia_gen.corpus.manifest import Manifest, read_corpus, record_path, settle_manifest
from sia_gen.corpus.parsing import ShardParser
from sia_gen.corpus.plan import COMPLETE, ShardPlan, ShardRecord
from sia_gen.corpus.reading import (
    OTHER_CHECKSUM,
    HashingReader,
    find_index,
    reporting_damage,
    stored_index,
)
from sia_gen.corpus.schema import MASK, SampleForm
from sia_gen.corpus.shards import ShardIndex, index_name, write_index
from sia_gen.errors import CorpusError, first_line
from sia_gen.io.files import Location, files_below, worker_threads
from sia_gen.runtime.progress import Progress

NOT_MADE = "not made yet"
FOREIGN = "not in the manifest"
OTHER_INDEX = "not the index of its shard"


class Problem(NamedTuple):
    """A problem of a file, whose path is relative to the corpus."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def verify(corpus: Location, *, repair: bool = False) -> str:
    """Checks a corpus, and updates its manifest; returns one line about what is intact.

    With `repair` it deletes bad shards, so that `synthesize` makes them again, and writes indexes
    that are wrong or missing. Every problem is printed; one that was not repaired is an error.
    """
    manifest = read_corpus(corpus)
    problems = find_problems(corpus)
    for problem in problems:
        print(problem, file=sys.stderr)
    bad: list[ShardPlan] = []
    if repair:
        paths = {problem.path for problem in problems}
        bad = [shard for shard in manifest.shards if shard.path in paths]
        indexes = [problem.path for problem in problems if problem.text == OTHER_INDEX]
        _delete(corpus, bad, indexes)
        for shard in read_corpus(corpus).records:
            lost = not (corpus / index_name(shard)).is_file()
            if lost and (corpus / shard.path).is_file():
                write_index(corpus, shard, find_index(corpus, shard, manifest.form))
        repaired = {*indexes, *(shard.path for shard in bad)}
        problems = [problem for problem in problems if problem.path not in repaired]
    # A corpus may be read-only, and the report matters more than its manifest.
    with contextlib.suppress(OSError):
        settle_manifest(corpus)
    if problems:
        raise not_intact(corpus, problems)
    if bad:
        return f"Shards of {corpus} to make again: {len(bad)}. Run 'sia-gen synthesize'."
    return f"{corpus} is intact: {manifest.samples} samples in {len(manifest.shards)} shards."


def _delete(corpus: Location, shards: Sequence[ShardPlan], indexes: Sequence[str]) -> None:
    """Deletes shards with their records and indexes, and some indexes alone."""
    files = [corpus / path for path in indexes]
    for shard in shards:
        files += [record_path(corpus, shard), corpus / shard.path, corpus / index_name(shard)]
    # No link is followed out of the corpus; a file that is a link goes without its target.
    for file in files:
        if not isinstance(corpus, Path) or not isinstance(file, Path):
            continue
        folder = file.parent.resolve()
        if not folder.is_relative_to(corpus.resolve()):
            raise CorpusError(
                problem=f"{file} lies outside of the corpus, in {folder}.",
                fix="Delete it yourself if you no longer need it, then run 'sia-gen synthesize'.",
            )
    for file in files:
        file.unlink(missing_ok=True)


def not_intact(corpus: Location, problems: list[Problem]) -> CorpusError:
    """Returns the error of a corpus that has problems."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    fix = "Run 'sia-gen synthesize' again: it makes the missing shards."
    foreign = [problem for problem in problems if problem.text == FOREIGN]
    if foreign:
        fix = f"Move {foreign[0].path} away: readers would take it for a part of the corpus."
    elif any(problem.text != NOT_MADE for problem in problems):
        fix = "Delete bad shards with 'sia-gen verify --repair', then run 'sia-gen synthesize'."
    return CorpusError(problem=f"{corpus} is not intact: {problems[0]}{more}.", fix=fix)


def find_problems(corpus: Location) -> list[Problem]:
    """Finds all problems of a corpus, in the order of its shards."""
    manifest = read_corpus(corpus)
    problems = [*_foreign_files(corpus, manifest), *_overlaps(manifest.shards)]
    with (
        Progress(f"verifying {corpus}", len(manifest.shards)) as progress,
        # Decoding takes most of the time.
        worker_threads() as threads,
    ):
        for found in threads.map(partial(_check_shard, corpus, manifest.form), manifest.shards):
            problems += found
            progress.advance()
    return problems


def _overlaps(shards: Sequence[ShardPlan]) -> Iterator[Problem]:
    """Finds shards that hold samples of another: every key belongs to one shard only."""
    ends: dict[str, tuple[int, str]] = {}
    for shard in sorted(shards, key=lambda shard: (shard.name, shard.first)):
        end, path = ends.get(shard.name, (0, ""))
        if shard.first < end:
            yield Problem(shard.path, f"holds {shard.key(shard.first)}, which is in {path} too")
        ends[shard.name] = max((end, path), (shard.indices.stop, shard.path))


def _foreign_files(corpus: Location, manifest: Manifest) -> list[Problem]:
    """Finds unplanned shards: whoever reads `data/*/*/train-*.tar` would read them too."""
    planned = {shard.path for shard in manifest.shards}
    return [
        Problem(path, FOREIGN)
        for path in files_below(corpus, "data/*/*/*.tar")
        # The next run replaces the remains of an interrupted one.
        if path not in planned and not path.rpartition("/")[2].startswith(".")
    ]


def _check_shard(corpus: Location, form: SampleForm, shard: ShardPlan) -> list[Problem]:
    """Finds the problems of a shard and its index; reads it once, from start to end."""
    path = corpus / shard.path
    if not path.is_file():
        return [Problem(shard.path, "missing" if shard.state == COMPLETE else NOT_MADE)]
    if not isinstance(shard, ShardRecord):
        return [Problem(shard.path, "never finished, or of another size than recorded")]
    index = ShardIndex(sha256=shard.sha256, offsets=[0], mask_areas=[])
    parser, problems, size = ShardParser(shard, form), list[str](), path.stat().st_size
    with reporting_damage(corpus, shard), path.open("rb") as file:
        hashing = HashingReader(file)
        try:
            for raw in parser.samples(hashing):
                index.offsets.append(raw.end)
                decoded, found = parser.decode_leniently(raw)
                problems += found
                if MASK in form.members and "json" in decoded:
                    index.mask_areas.append(decoded["json"]["mask_area"])
        except ValueError as error:
            problems.append(first_line(error))
        checksum = hashing.finish()
    if size != shard.bytes:
        problems.insert(0, f"{size} bytes, {shard.bytes} in the manifest")
    elif checksum != shard.sha256:
        problems.insert(0, OTHER_CHECKSUM)
    if problems:
        return [Problem(shard.path, text) for text in problems]
    has_index = (corpus / index_name(shard)).is_file()
    if has_index and stored_index(corpus, shard, form) != index:
        return [Problem(index_name(shard), OTHER_INDEX)]
    return []
