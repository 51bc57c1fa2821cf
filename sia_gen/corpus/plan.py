"""Which samples are in which shard, and which shard belongs to which process."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.config.recipe_file import Name
from sia_gen.config.settings import MOST_IMAGES, Synthesis
from sia_gen.config.strength import Perturbation, Strength, StrengthText
from sia_gen.corpus.schema import StrictModel
from sia_gen.errors import OptionError

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Seeds and fractions have 53 bits: every JSON reader keeps them exactly.
BITS = 53
COMPLETE, MISSING = "complete", "missing"
FILE_NAME = re.compile(r"train-[0-9]{5}-of-[0-9]{5}\.tar")


def _sample_key(dataset: str, category: str, index: int) -> str:
    return f"{dataset}_{category}_{index:08d}"


class ShardPlan(StrictModel):
    """One shard: the samples `first` to `first + samples - 1` of a category, in one tar file.

    `ValueError` if a field is wrong, for example a path that leads out of the corpus.
    """

    path: str
    dataset: Name
    category: Name
    first: Annotated[int, Field(ge=0)]
    samples: Annotated[int, Field(ge=1)]
    # By perturbation; every sample draws one of these.
    strengths: Annotated[dict[Perturbation, StrengthText], Field(min_length=1)]

    @model_validator(mode="after")
    def _shard_belongs_to_its_category(self) -> Self:
        folder, _, file = self.path.rpartition("/")
        if folder != f"data/{self.dataset}/{self.category}" or not FILE_NAME.fullmatch(file):
            msg = f"{self.path!a:.100} is not the path of a shard of {self.name}"
            raise ValueError(msg)
        if self.first + self.samples > MOST_IMAGES:
            msg = f"{self.path} has more samples than there are keys"
            raise ValueError(msg)
        return self

    @property
    def state(self) -> str:
        """Whether the shard was made, as the manifest says it."""
        return COMPLETE if isinstance(self, ShardRecord) else MISSING

    @property
    def strength(self) -> str:
        """Its strengths for people: `0.1:0.2`, or `blobs 0.2, streaks 0.3` if they differ."""
        if len(set(self.strengths.values())) == 1:
            return next(iter(self.strengths.values()))
        return self.anomalies

    @property
    def anomalies(self) -> str:
        """Its perturbations with their strengths, for people: `blobs 0.2, streaks 0.3`."""
        return ", ".join(f"{kind} {strength}" for kind, strength in self.strengths.items())

    @property
    def name(self) -> str:
        """Its category as `<dataset>.<category>`."""
        return f"{self.dataset}.{self.category}"

    @property
    def indices(self) -> range:
        """The indices of its samples."""
        return range(self.first, self.first + self.samples)

    def key(self, index: int) -> str:
        """Returns the key of the sample with this index."""
        return _sample_key(self.dataset, self.category, index)

    def planned(self) -> "ShardPlan":
        """Returns the plan of this shard, without the facts about its file."""
        return ShardPlan(**self.model_dump(include=set(ShardPlan.model_fields)))

    def batches(self, batch_size: int) -> Iterator[range]:
        """Yields the indices of each batch; none crosses a shard, which can thus be made alone."""
        for start in range(0, self.samples, batch_size):
            yield self.indices[start : start + batch_size]


class ShardRecord(ShardPlan):
    """A shard that was made: its file, and what decided its samples.

    `model` is the hash of the weights, `photographs` that of the files that samples start from;
    None if they start from noise.
    """

    bytes: Annotated[int, Field(ge=0)]
    sha256: Hash
    model: Hash
    photographs: Hash | None = None


def plan_corpus(categories: Sequence[DatasetCategory], synthesis: Synthesis) -> list[ShardPlan]:
    """Plans the shards of a corpus: `images` samples per category, at most `shard_size` in each.

    `OptionError` if the strength is `auto` and a category is not calibrated.
    """
    images, size = synthesis.images, synthesis.shard_size
    count = math.ceil(images / size)
    return [
        ShardPlan(
            path=f"data/{recipe.dataset}/{category}/train-{shard:05d}-of-{count:05d}.tar",
            dataset=recipe.dataset,
            category=category,
            first=shard * size,
            samples=min(size, images - shard * size),
            strengths=_strengths(synthesis, recipe, category),
        )
        for recipe, category in categories
        for shard in range(count)
    ]


def _strengths(synthesis: Synthesis, recipe: Recipe, category: str) -> dict[str, str]:
    calibrated = {"calibrated": recipe.synthesis.calibrated}
    strengths = synthesis.model_copy(update=calibrated).strengths_of(category)
    return {kind: str(strength) for kind, strength in strengths.items()}


def choose_shards(plan: Sequence[ShardPlan], span: str | None) -> list[ShardPlan]:
    """Returns the shards A to B - 1 of a plan for the span `A:B`, or all for None.

    `OptionError` if the span is something else, or leads beyond the plan.
    """
    if span is None:
        return list(plan)
    first, colon, end = span.partition(":")
    inside = colon and first.isdecimal() and end.isdecimal() and int(first) < int(end) <= len(plan)
    if not inside:
        raise OptionError(
            problem=f"--shards {span}: the option takes A:B with 0 <= A < B <= {len(plan)}.",
            fix=f"This corpus has the shards 0:{len(plan)}; '--plan' shows them.",
        )
    return list(plan[int(first) : int(end)])


def samples_by_name(shards: Sequence[ShardPlan]) -> dict[str, range]:
    """Returns the samples from the first shard to the last of each category, by its name."""
    spans: dict[str, range] = {}
    for shard in shards:
        first = spans.get(shard.name, shard.indices).start
        spans[shard.name] = range(first, shard.indices.stop)
    return spans


@dataclass(frozen=True)
class SampleIdentity:
    """The key of a sample, and what it is made from."""

    key: str
    dataset: str
    category: str
    index: int
    seed: int
    perturbation: str
    strength: float


def identify(
    corpus_seed: int, dataset: str, category: str, index: int, strengths: Mapping[str, Strength]
) -> SampleIdentity:
    """Derives the identity of a sample: one of the perturbations, uniform in its strengths."""
    digest = hashlib.sha256(f"{corpus_seed}/{dataset}/{category}/{index}".encode()).digest()
    seed, fraction, choice = (
        int.from_bytes(digest[start : start + 8], "big") >> (64 - BITS) for start in (0, 8, 16)
    )
    perturbation = list(strengths)[choice % len(strengths)]
    return SampleIdentity(
        key=_sample_key(dataset, category, index),
        dataset=dataset,
        category=category,
        index=index,
        seed=seed,
        perturbation=perturbation,
        strength=float(strengths[perturbation].at(fraction / 2**BITS)),
    )
