"""The index of a shard, with which any of its samples is read alone.

    CORPUS/data/<dataset>/<category>/
        train-00000-of-0000K.tar
        train-00000-of-0000K.index.json     see `sia_gen.corpus.shards.ShardIndex`

A shard without its index, or with that of other bytes, is read through once to find it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from typing import IO, cast

from sia_gen.corpus.entries import checked
from sia_gen.corpus.members import RawSample, decode_metadata, largest_sample, read_samples
from sia_gen.corpus.plan import ShardPlan, ShardRecord
from sia_gen.corpus.schema import MASK, SampleForm
from sia_gen.corpus.shards import ShardIndex
from sia_gen.io.files import write_text
from sia_gen.io.json import read_json
from sia_gen.io.locations import Location

SUFFIX = ".index.json"
# Bytes of an index, and for each sample in it, that none of ours exceeds.
LARGEST_REST, LARGEST_ENTRY = 256, 64


def index_name(shard: ShardPlan) -> str:
    """The path of a shard's index below its corpus."""
    return shard.path.removesuffix(".tar") + SUFFIX


def write_index(corpus: Location, shard: ShardPlan, index: ShardIndex) -> None:
    """Writes the index of a shard beside it."""
    write_text(corpus / index_name(shard), json.dumps(asdict(index)) + "\n")


def stored_index(corpus: Location, shard: ShardRecord, form: SampleForm) -> ShardIndex | None:
    """The index that lies beside a shard; None if there is none, or it is of other bytes."""
    try:
        largest = LARGEST_REST + LARGEST_ENTRY * (shard.samples + 1)
        index = checked(ShardIndex, read_json(corpus / index_name(shard), largest))
    except (FileNotFoundError, ValueError):
        return None
    return index if fits(index, shard, form) else None


def fits(index: ShardIndex, shard: ShardRecord, form: SampleForm) -> bool:
    """Whether it may be the index of a shard; its samples show whether it is right."""
    sizes = [end - start for start, end in pairwise(index.offsets)]
    return (
        index.sha256 == shard.sha256
        and index.offsets[:1] == [0]
        and index.offsets[-1] <= shard.bytes
        and len(sizes) == shard.samples
        and max(sizes) <= largest_sample(form)
        and len(index.mask_areas) == (shard.samples if MASK in form.members else 0)
    )


def find_index(corpus: Location, shard: ShardRecord, form: SampleForm) -> ShardIndex:
    """The index of a shard, stored or found by reading through it.

    Raises:
        ValueError: If the shard is damaged.
    """
    stored = stored_index(corpus, shard, form)
    if stored is not None:
        return stored
    with (corpus / shard.path).open("rb") as file:
        return index_of(read_samples(cast("IO[bytes]", file), shard, form), shard, form)


def index_of(samples: Iterable[RawSample], shard: ShardRecord, form: SampleForm) -> ShardIndex:
    """The index of a shard from all of its samples; `ValueError` if they are damaged."""
    offsets, mask_areas = [0], list[float]()
    for raw in samples:
        offsets.append(raw.end)
        if MASK in form.members:
            metadata = decode_metadata(raw.members["json"], raw.index, shard, form)
            mask_areas.append(metadata["mask_area"])
    found = {"sha256": shard.sha256, "offsets": offsets, "mask_areas": mask_areas}
    return checked(ShardIndex, found)
