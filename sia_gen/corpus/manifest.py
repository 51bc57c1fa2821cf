"""The manifest: what a corpus consists of, and which of its shards are there.

    CORPUS/
        manifest.json                       this file, for readers
        .records/                           one record per finished shard, written by its process,
                                            and the hashes of the models
        data/<dataset>/<category>/...tar

A process records a shard once it is on the disk under its final name. The manifest joins the plan
with the records, so any process can write it again at any time.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag

from sia_gen.config.settings import LARGEST_SIDE
from sia_gen.config.strength import Perturbation
from sia_gen.corpus.plan import COMPLETE, MISSING, ShardPlan, ShardRecord
from sia_gen.corpus.schema import Kind, SampleForm, StrictModel
from sia_gen.corpus.shards import ShardIndex, write_index
from sia_gen.errors import CorpusError, first_line
from sia_gen.io.files import Location, files_below, read_json, write_json
from sia_gen.io.locks import settling
from sia_gen.io.refusals import reading

MANIFEST = "manifest.json"
RECORDS = ".records"
HASHES = ".records/weights.json"
VERSION: Final = 2
# Fields that change no sample: the recipe has other sections, and other versions may go on.
MAY_DIFFER = {"recipe", "sia_gen", "versions", "shards"}
ADDRESS = "Check the address, and whether you have to log in: 'hf auth login' for hf://."

Count = Annotated[int, Field(ge=1)]


def _state_of(shard: Any) -> Any:
    return shard.get("state") if isinstance(shard, dict) else getattr(shard, "state", None)


Shard = Annotated[
    Annotated[ShardRecord, Tag(COMPLETE)] | Annotated[ShardPlan, Tag(MISSING)],
    Discriminator(
        _state_of,
        custom_error_type="state",
        custom_error_message=f"its state is neither '{COMPLETE}' nor '{MISSING}'",
    ),
]


class Manifest(StrictModel):
    """What all shards of a corpus have in common, and the shards."""

    sia_gen: str
    recipe: str  # its hash
    name: str
    seed: Annotated[int, Field(ge=0)]
    images: Count
    perturbation: list[Perturbation]
    strength: str
    steps: Count
    sampler: str
    guidance_scale: Annotated[float, Field(ge=0)]
    batch_size: Count
    precision: str
    compiled: bool  # whether the networks were compiled, which changes the last bits
    channels_last: bool  # whether the networks used this memory format
    shard_size: Count
    format: Literal["png", "webp", "jpg"]
    mode: Literal["L", "RGB"]
    image_size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    # Side of the tiles that were disturbed in samples that are whole photographs.
    tile: Annotated[int, Field(ge=1)] | None = None
    versions: dict[str, str]  # of the libraries
    kind: Kind
    manifest_version: Literal[2] = VERSION
    shards: list[Shard]

    @property
    def form(self) -> SampleForm:
        """What every sample of the corpus consists of."""
        return SampleForm(self.kind, self.format, self.mode, self.image_size, self.tile)

    @property
    def records(self) -> list[ShardRecord]:
        """The shards that were made."""
        return [shard for shard in self.shards if isinstance(shard, ShardRecord)]

    @property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def with_shards(self, shards: Sequence[ShardPlan]) -> Self:
        """Returns the same corpus with other shards."""
        return self.model_copy(update={"shards": list(shards)})

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the file."""
        shards = [shard.model_dump() | {"state": shard.state} for shard in self.shards]
        return self.model_dump(exclude={"shards"}) | {"shards": shards}

    def difference(self, other: Self) -> str | None:
        """Describes why two corpora differ, as "seed (0, not 1)"; None if they are the same."""
        for field in Manifest.model_fields:
            ours, theirs = getattr(self, field), getattr(other, field)
            if field not in MAY_DIFFER and ours != theirs:
                return f"{field} ({ours}, not {theirs})"
        return None


def record_path(corpus: Location, shard: ShardPlan) -> Location:
    """Returns the file of the record of a shard."""
    return corpus / RECORDS / (shard.path.replace("/", "--") + ".json")


def write_record(
    corpus: Location,
    shard: ShardPlan,
    index: ShardIndex,
    model: str,
    photographs: str | None = None,
) -> None:
    """Records a shard that is there under its final name, once its index is there too."""
    write_index(corpus, shard, index)
    size = (corpus / shard.path).stat().st_size
    known = {"bytes": size, "sha256": index.sha256, "model": model, "photographs": photographs}
    write_json(record_path(corpus, shard), shard.model_dump() | known)


def known_shards(corpus: Location) -> list[ShardPlan]:
    """Reads which shards are in the manifest, if there is one, and in the records."""
    shards = read_manifest(corpus).shards if (corpus / MANIFEST).is_file() else []
    return _with_records(corpus, shards)


def _with_records(corpus: Location, shards: Sequence[ShardPlan]) -> list[ShardPlan]:
    """Adds what the records say of these shards, and the other shards that have records."""
    by_path = {shard.path: shard for shard in shards}
    for name in files_below(corpus / RECORDS, "data--*.json"):
        # A damaged record does not count: its shard is made again.
        with contextlib.suppress(ValueError, FileNotFoundError):
            record = ShardRecord.parse(read_json(corpus / RECORDS / name))
            by_path[record.path] = record
    return list(by_path.values())


def present_records(corpus: Location) -> dict[str, ShardRecord]:
    """Returns the records of the shards that are there in full size, by path."""
    records = [shard for shard in known_shards(corpus) if isinstance(shard, ShardRecord)]
    return {record.path: record for record in records if is_present(corpus, record)}


def is_present(corpus: Location, shard: ShardPlan) -> bool:
    """Returns whether a shard was recorded and is there in full size."""
    if not isinstance(shard, ShardRecord):
        return False
    file = corpus / shard.path
    with reading(file):
        return file.is_file() and bool(file.stat().st_size == shard.bytes)


def write_manifest(corpus: Location, manifest: Manifest) -> None:
    """Writes the manifest of a corpus."""
    write_json(corpus / MANIFEST, manifest.to_json())


def settle_manifest(corpus: Location) -> None:
    """Updates the manifest if it does not say which shards are there."""
    # A correct manifest needs no lock, so a downloaded corpus gets none.
    manifest = read_manifest(corpus)
    if _settled(corpus, manifest) != manifest:
        # What other processes write between reading and writing would be lost.
        with settling(corpus):
            write_manifest(corpus, _settled(corpus, read_manifest(corpus)))


def _settled(corpus: Location, manifest: Manifest) -> Manifest:
    shards = _with_records(corpus, manifest.shards)
    return manifest.with_shards(
        [shard if is_present(corpus, shard) else shard.planned() for shard in shards]
    )


def read_corpus(corpus: Location) -> Manifest:
    """Reads the manifest, with the records of all processes that worked on the corpus since."""
    manifest = read_manifest(corpus)
    return manifest.with_shards(_with_records(corpus, manifest.shards))


def read_manifest(corpus: Location) -> Manifest:
    """Reads the manifest of a corpus; `CorpusError` if it is none, or it cannot be read."""
    path, local = corpus / MANIFEST, isinstance(corpus, Path)
    again = "Delete it and run 'sia-gen synthesize' again: finished shards are kept."
    try:
        # Without asking first: some stores say no when they cannot tell.
        content = read_json(path)
        version = content.get("manifest_version") if isinstance(content, dict) else None
        if type(version) is int and version != VERSION:
            raise CorpusError(
                problem=f"{path} has version {version}; this sia-gen reads version {VERSION}.",
                fix="Update sia-gen."
                if version > VERSION
                else "Make the corpus again in another folder.",
            )
        return Manifest.parse(content)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        fix = "Make one with 'sia-gen synthesize', or give its folder." if local else ADDRESS
        if local and (corpus / "corpus" / MANIFEST).is_file():
            fix = f"Give {corpus / 'corpus'}."
        raise CorpusError(
            problem=f"{corpus} is not a corpus: it has no {MANIFEST}.", fix=fix
        ) from error
    except ValueError as error:
        raise CorpusError(
            problem=f"{path} cannot be read ({first_line(error)}).",
            fix=again if local else ADDRESS,
        ) from error
