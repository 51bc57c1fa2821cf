"""What manifests and records may say, checked field by field: a corpus may come from anyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from sia_gen.config.settings import LARGEST_SIDE
from sia_gen.corpus.plan import ShardPlan, ShardRecord
from sia_gen.corpus.schema import STRICT
from sia_gen.corpus.shards import ShardIndex

VERSION = 1
COMPLETE, MISSING = "complete", "missing"

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CorpusHeader:
    """What all shards of a corpus have in common; besides the models.

    Attributes:
        compiled: Whether networks were compiled, which changes the last bits; none of an older
            corpus were.
        channels_last: Whether they computed in channels-last memory; older corpora do not tell.
        versions: Of the libraries; older corpora do not tell.
    """

    sia_gen: str
    recipe: str
    name: str
    seed: Annotated[int, Field(ge=0)]
    images: Count
    strength: str
    steps: Count
    sampler: str
    guidance_scale: Annotated[float, Field(ge=0)]
    batch_size: Count
    precision: str
    compiled: bool = False
    channels_last: bool | None = None
    shard_size: Count
    format: Literal["png", "webp", "jpg"]
    mode: Literal["L", "RGB"]
    image_size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    versions: dict[str, str] = Field(default_factory=dict)
    kind: Literal["samples", "triplets", "twins"]
    manifest_version: int = VERSION


Kind = TypeVar("Kind", ShardPlan, ShardRecord, CorpusHeader, ShardIndex)


def version_of(manifest: Any) -> int:
    """The version of a manifest; `ValueError` if it is none."""
    version = manifest.get("manifest_version") if isinstance(manifest, dict) else None
    if type(version) is not int:
        msg = "it has no 'manifest_version'"
        raise ValueError(msg)
    return version


def check_manifest(manifest: dict[str, Any]) -> None:
    """Raises `ValueError` unless it has all fields, of the types they should be."""
    checked(CorpusHeader, manifest)
    shards = manifest.get("shards")
    if not isinstance(shards, list):
        msg = "it has no list of shards"
        raise ValueError(msg)
    for number, entry in enumerate(shards):
        try:
            check_entry(entry)
        except ValueError as error:
            msg = f"shards.{number}: {error}"
            raise ValueError(msg) from error


def plan_of(entry: Any) -> ShardPlan:
    """The plan of a shard from its entry or record; `ValueError` if it is none."""
    return checked(ShardPlan, entry)


def record_of(entry: Any) -> ShardRecord:
    """The record of a shard from its entry, if it was made; `ValueError` if it is none."""
    return checked(ShardRecord, entry)


def checked(kind: type[Kind], content: Any) -> Kind:
    """The fields of a dataclass from those of an object that anyone may have written.

    Raises:
        ValueError: If one is missing or wrong; one line names it.
    """
    if not isinstance(content, Mapping):
        msg = f"it is {content!r:.50}, not an object"
        raise ValueError(msg)
    names = [field.name for field in fields(kind) if field.name in content]
    try:
        return kind(**{name: content[name] for name in names})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        msg = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise ValueError(msg) from error


def check_entry(entry: Any) -> None:
    """Raises `ValueError` unless it is an entry of a manifest."""
    plan_of(entry)
    if entry.get("state") == COMPLETE:
        record_of(entry)
    elif entry.get("state") != MISSING:
        msg = f"{entry['path']} has no proper state"
        raise ValueError(msg)
