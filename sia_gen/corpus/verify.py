"""Verifies a corpus: re-reads every shard and holds it against the manifest."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sia_gen.corpus.checking import NOT_MADE, OTHER_INDEX, Problem, check_shard
from sia_gen.corpus.entries import COMPLETE, plan_of, record_of
from sia_gen.corpus.index import find_index, index_name, write_index
from sia_gen.corpus.manifest import read_corpus, record_path, settle_manifest
from sia_gen.corpus.reading import reporting_damage
from sia_gen.corpus.schema import SampleForm
from sia_gen.errors import CorpusError
from sia_gen.io.locations import Location, files_below
from sia_gen.runtime.progress import Progress

FOREIGN = "not in the manifest"
# Decoding is the work; it runs beside itself.
THREADS = min(8, os.cpu_count() or 1)


def verify(corpus: Location, *, repair: bool = False) -> str:
    """Checks a corpus, and brings its manifest up to date with all who worked on it.

    Args:
        corpus: Its folder.
        repair: Whether to delete bad shards, so that `synthesize` makes them again, and to write
            indexes that are wrong or missing.

    Returns:
        One line that says how many samples are well, or which shards are to be made again.

    Raises:
        CorpusError: If there is a problem that was not repaired; every one of them is printed.
    """
    shards = {shard["path"]: plan_of(shard) for shard in read_corpus(corpus)["shards"]}
    problems = find_problems(corpus)
    for problem in problems:
        print(problem, file=sys.stderr)
    if repair:
        bad = {problem.path: shards[problem.path] for problem in problems if problem.path in shards}
        files = [record_path(corpus, shard) for shard in bad.values()]
        files += [
            corpus / place for shard in bad.values() for place in (shard.path, index_name(shard))
        ]
        files += [corpus / problem.path for problem in problems if problem.text == OTHER_INDEX]
        for file in files:
            require_inside(corpus, file)
        for file in files:
            file.unlink(missing_ok=True)
        write_indexes(corpus)
        problems = [
            problem
            for problem in problems
            if problem.path not in bad and problem.text != OTHER_INDEX
        ]
    # The report is what counts: a corpus may lie where nobody may write.
    with contextlib.suppress(OSError):
        settle_manifest(corpus)
    if problems:
        raise not_intact(corpus, problems)
    if repair and bad:
        return f"{len(bad)} shards of {corpus} are to be made: run 'sia-gen synthesize' again."
    samples = sum(shard.samples for shard in shards.values())
    return f"{corpus} is intact: {samples} samples in {len(shards)} shards."


def write_indexes(corpus: Location) -> None:
    """Writes the indexes that the shards of a corpus lack."""
    manifest = read_corpus(corpus)
    form = SampleForm.of(manifest)
    for entry in manifest["shards"]:
        if entry["state"] == COMPLETE and (corpus / entry["path"]).is_file():
            shard = record_of(entry)
            if not (corpus / index_name(shard)).is_file():
                with reporting_damage(corpus, shard):
                    write_index(corpus, shard, find_index(corpus, shard, form))


def require_inside(corpus: Location, file: Location) -> None:
    """Refuses to delete what a link in the corpus leads to somewhere else.

    Raises:
        CorpusError: If the folder of the file is not in the corpus; a file that is a link is, and
            goes without what it leads to.
    """
    if not (isinstance(corpus, Path) and isinstance(file, Path)):
        return
    folder = file.parent.resolve()
    if not folder.is_relative_to(corpus.resolve()):
        raise CorpusError(
            problem=f"{file} lies outside of the corpus, in {folder}.",
            fix="Delete it yourself if you no longer need it, then run 'sia-gen synthesize'.",
        )


def not_intact(corpus: Location, problems: list[Problem]) -> CorpusError:
    """The error of a corpus that has problems."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    fix = "Run 'sia-gen synthesize' again: it makes what is missing."
    foreign = [problem for problem in problems if problem.text == FOREIGN]
    if foreign:
        fix = f"Move {foreign[0].path} away: readers would take it for a part of the corpus."
    elif any(problem.text != NOT_MADE for problem in problems):
        fix = "Delete bad shards with 'sia-gen verify --repair', then run 'sia-gen synthesize'."
    return CorpusError(problem=f"{corpus} is not intact: {problems[0]}{more}.", fix=fix)


def find_problems(corpus: Location) -> list[Problem]:
    """All problems of a corpus, in the order of its shards."""
    manifest = read_corpus(corpus)
    shards = manifest["shards"]

    def check(shard: dict[str, Any]) -> list[Problem]:
        return list(check_shard(corpus, manifest, shard))

    problems = [*foreign_files(corpus, manifest), *overlaps(shards)]
    with (
        Progress(f"verifying {corpus}", len(shards)) as progress,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        for found in threads.map(check, shards):
            problems += found
            progress.advance()
    return problems


def overlaps(shards: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    """The shards that hold samples of another: every key stands in one shard alone."""
    ends: dict[str, tuple[int, str]] = {}
    for shard in sorted(map(plan_of, shards), key=lambda shard: (shard.name, shard.first)):
        end, path = ends.get(shard.name, (0, ""))
        if shard.first < end:
            yield Problem(shard.path, f"holds {shard.key(shard.first)}, which is in {path} too")
        ends[shard.name] = max((end, path), (shard.indices.stop, shard.path))


def foreign_files(corpus: Location, manifest: dict[str, Any]) -> list[Problem]:
    """The shards that nobody planned: `data/*/*/train-*.tar` would read them too."""
    planned = {shard["path"] for shard in manifest["shards"]}
    return [
        Problem(path, FOREIGN)
        for path in files_below(corpus, "data/*/*/*.tar")
        # What is left of an interrupted run gets replaced by the next.
        if path not in planned and not path.rpartition("/")[2].startswith(".")
    ]
