"""The card of a corpus: README.md, filled from the template `DATASET_CARD.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CardData
from jinja2 import Environment, StrictUndefined

from sia_gen.config.recipe import CorpusRecipe, Recipe
from sia_gen.config.recipe_file import recipe_names
from sia_gen.config.settings import Twins
from sia_gen.corpus.licenses import hub_license, strictest
from sia_gen.corpus.manifest import UNTOLD
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import SAMPLES, image_members, json_schema
from sia_gen.io.files import write_text
from sia_gen.io.locations import Location, shipped

CARD = "README.md"
# How a card on disk calls its folder: by no name of its own, so that a corpus has the same bytes
# wherever it stands.
HERE = "CORPUS"
PICTURE = "samples.png"
# What of a twin is disturbed, by the name of the region.
DISTURBED = {
    "everywhere": "everywhere",
    "perlin": "within a Perlin mask of its own",
    "box": "within a box of its own",
    "foreground": "within the foreground",
}
# What of the execution changes the last bits, by the field of the header and its value.
EXECUTION_OPTIONS = {
    ("compiled", True): " --compile",
    ("compiled", False): " --no-compile",
    ("channels_last", True): " --channels-last",
    ("channels_last", False): " --no-channels-last",
}
ADDRESS = re.compile(r"https?://[^\s()<>]+")


@dataclass(frozen=True)
class CategoryFacts:
    """What a card tells of a category besides its plan.

    Attributes:
        name: `<dataset>.<category>`.
        samples: How many there are.
        bytes: Of its shards.
        model: Hash of the weights that made them.
        measured: Figures of the samples by what they are, in words.
        shown: The strengths of the samples in its row of the picture, ascending.
    """

    name: str
    samples: int
    bytes: int
    model: str
    measured: dict[str, str]
    shown: list[float]


def write_card(
    corpus: Location,
    recipe: CorpusRecipe,
    header: dict[str, Any],
    shards: Sequence[ShardPlan],
    *,
    facts: Sequence[CategoryFacts] = (),
    repository: str | None = None,
) -> None:
    """Writes the card of a corpus.

    Args:
        corpus: Where it goes.
        recipe: Of the corpus.
        header: What all shards have in common.
        shards: All of them.
        facts: What was measured of each category, in which case there is a picture too.
        repository: Where it is on the Hub, `owner/name`, if it is there.
    """
    # Markdown, in which entities of HTML would stand as they are.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    template = environment.from_string(shipped("DATASET_CARD.md").read_text(encoding="utf-8"))
    metadata = card_metadata(recipe, header, shards)
    first = shards[0]
    own_recipe = "recipe.yaml" if repository else f"{HERE}/recipe.yaml"
    member = next(one for one in recipe.members if one.dataset == first.dataset)
    text = template.render(
        metadata=CardData(**metadata).to_yaml(),
        recipe=recipe,
        linked=linked,
        header=header,
        facts=facts,
        picture=PICTURE,
        repository=repository,
        place=f"hf://datasets/{repository}" if repository else HERE,
        precision={"no": "fp32"}.get(header["precision"], header["precision"]),
        execution_options=execution_options(header),
        strengths=dict.fromkeys(shard.strength for shard in shards),
        categories=names_of(shards),
        samples=sum(shard.samples for shard in shards),
        fields=list(json_schema(header["kind"])),
        images=list(image_members(header["kind"], header["format"], header["mode"])),
        first=first,
        first_shards=braces([shard for shard in shards if shard.name == first.name]),
        first_member=member,
        first_recipe=member.name if member.name in recipe_names() else own_recipe,
        license=strictest(one.license for one in recipe.members),
        **twin_words(recipe.synthesis.twins),
    )
    write_text(corpus / CARD, text)


def twin_words(twins: Twins | None) -> dict[str, Any]:
    """What a card says of how twins are made."""
    region = "everywhere" if twins is None else twins.region
    own = region not in DISTURBED
    return {
        "twins": twins,
        "from_photographs": twins is not None and twins.source == "image",
        "disturbed": "where one mask for all marks it" if own else DISTURBED[region],
        "own_mask": f" and the mask of the\nregion at `{region}`" if own else "",
    }


def execution_options(header: dict[str, Any]) -> str:
    """What makes the same bytes again, on a machine that would decide otherwise."""
    told = {**UNTOLD, **header}
    # Twins are never compiled, and have no such option.
    names = ("compiled", "channels_last") if header["kind"] == SAMPLES else ("channels_last",)
    known = [name for name in names if told[name] is not None]
    return "".join(EXECUTION_OPTIONS[name, told[name]] for name in known)


def linked(recipe: Recipe) -> str:
    """The title of a data set in Markdown, with where it comes from."""
    link = f"[{recipe.title}]({recipe.source})"
    return link if ADDRESS.fullmatch(recipe.source) else f"{recipe.title} ({recipe.source})"


def braces(shards: Sequence[ShardPlan]) -> str:
    """The paths of a category's shards as one pattern that webdataset expands."""
    folder, _, last = shards[-1].path.rpartition("/")
    number, count = len(shards) - 1, last.rpartition("-of-")[2]
    return f"{folder}/train-{{00000..{number:05d}}}-of-{count}"


FEATURE_TYPES = {str: "string", int: "int64", float: "float64"}
# The classes of size that the Hub knows, by the number they end before.
SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}


def card_metadata(
    recipe: CorpusRecipe, header: dict[str, Any], shards: Sequence[ShardPlan]
) -> dict[str, Any]:
    """Licence, tags, size, one config per category and one of all, and the features.

    The features are declared because `datasets` would guess them from the first samples alone.
    """
    configs = [{"config_name": "default", "data_files": "data/*/*/train-*.tar", "default": True}]
    configs += [
        {"config_name": name, "data_files": f"data/{name.replace('.', '/')}/train-*.tar"}
        for name in names_of(shards)
    ]
    segmented = header["kind"] != SAMPLES
    return {
        "pretty_name": f"{recipe.title}, synthetic anomalies",
        **hub_license(strictest(member.license for member in recipe.members)),
        "task_categories": ["image-segmentation" if segmented else "image-classification"],
        "size_categories": [size_category(sum(shard.samples for shard in shards))],
        "tags": ["webdataset", "anomaly-detection", "synthetic", "sia-gen"],
        "configs": configs,
        "dataset_info": [
            {"config_name": config["config_name"], "features": features(header)}
            for config in configs
        ],
    }


def size_category(samples: int) -> str:
    """The class of size of a corpus on the Hub."""
    return next((name for end, name in SIZES.items() if samples < end), "10M<n<100M")


def features(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The features of a sample as `datasets` declares them in a card."""
    images = image_members(header["kind"], header["format"], header["mode"])
    members = [
        {"name": name, "dtype": FEATURE_TYPES[kind]}
        for name, kind in json_schema(header["kind"]).items()
    ]
    return [
        *({"name": name, "dtype": "image"} for name in images),
        {"name": "json", "struct": members},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def names_of(shards: Sequence[ShardPlan]) -> list[str]:
    """The categories as `<dataset>.<category>`, in the order of the shards."""
    return list(dict.fromkeys(shard.name for shard in shards))
