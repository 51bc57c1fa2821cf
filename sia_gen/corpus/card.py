"""The card of a corpus: README.md with the metadata that the Hub and `load_dataset` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from sia_gen.collection import CorpusRecipe
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import image_members, json_schema
from sia_gen.files import write_text
from sia_gen.locations import Location
from sia_gen.shipped import shipped

CARD = "README.md"
FEATURE_TYPES = {str: "string", int: "int64", float: "float64"}


def write_card(
    corpus: Location, recipe: CorpusRecipe, header: dict[str, Any], shards: Sequence[ShardPlan]
) -> None:
    """Fills the template `DATASET_CARD.md` for a corpus and writes it as its README.md."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(shipped("DATASET_CARD.md").read_text(encoding="utf-8"))
    metadata = card_metadata(recipe, header, shards)
    text = template.render(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(),
        recipe=recipe,
        header=header,
        strengths=dict.fromkeys(shard.strength for shard in shards),
        categories=names_of(shards),
        samples=sum(shard.samples for shard in shards),
        fields=list(json_schema(header["kind"])),
        images=list(image_members(header["kind"], header["format"], header["mode"])),
    )
    write_text(corpus / CARD, text)


def card_metadata(
    recipe: CorpusRecipe, header: dict[str, Any], shards: Sequence[ShardPlan]
) -> dict[str, Any]:
    """The YAML at the top of the card: licence, one config per category, and the features.

    The features are declared because `datasets` would guess them from the first samples alone.
    """
    configs = [{"config_name": "default", "data_files": "data/*/*/train-*.tar", "default": True}]
    configs += [
        {"config_name": name, "data_files": f"data/{name.replace('.', '/')}/train-*.tar"}
        for name in names_of(shards)
    ]
    licenses = list(dict.fromkeys(member.license for member in recipe.members))
    return {
        "pretty_name": f"{recipe.title}, synthetic anomalies",
        "license": licenses[0] if len(licenses) == 1 else licenses,
        "tags": ["webdataset", "anomaly-detection", "synthetic", "sia-gen"],
        "configs": configs,
        "dataset_info": [
            {"config_name": config["config_name"], "features": features(header)}
            for config in configs
        ],
    }


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
