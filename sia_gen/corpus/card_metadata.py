"""The YAML at the top of a card, which the Hub and `load_dataset` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sia_gen.config.collection import CorpusRecipe
from sia_gen.corpus.licenses import hub_license, strictest
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import SAMPLES, image_members, json_schema

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
