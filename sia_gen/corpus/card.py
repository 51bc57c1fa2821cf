"""The card of a corpus, README.md: what the Hub and a person need to know of it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CardData

from sia_gen.config.recipe import CorpusRecipe, Recipe
from sia_gen.config.recipe_file import recipe_names
from sia_gen.corpus.manifest import Manifest
from sia_gen.corpus.plan import ShardPlan
from sia_gen.corpus.schema import SAMPLES, json_schema
from sia_gen.io.files import Location, write_text
from sia_gen.report.page import open_template

CARD = "README.md"
PICTURE = "samples.png"
# A card on disk does not name its folder, so that a corpus has the same bytes wherever it is.
HERE = "CORPUS"
ADDRESS = re.compile(r"https?://[^\s()<>]+")
FEATURE_TYPES = {str: "string", int: "int64", float: "float64"}
# The size classes of the Hub, by the number that they end before.
SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}
# With the country it is adapted to, as in `cc-by-nc-3.0-de`, if to any.
CREATIVE_COMMONS = re.compile(r"cc-(by(?:-nc)?(?:-nd|-sa)?)-(\d\.\d)(?:-[a-z]+)?")
PERMISSIVE = ("cc0-1.0", "unlicense", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
UNSTATED = ("unknown", "other")
# The ones that the Hub has a name for; all others are `other` there.
NAMED = {
    *PERMISSIVE,
    *UNSTATED,
    *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
    *(f"cc-by-sa-{version}" for version in ("3.0", "4.0")),
    *(f"cc-by-nc-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-sa-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-nd-{version}" for version in ("3.0", "4.0")),
    "cc-by-nd-4.0",
}


@dataclass(frozen=True)
class CategoryFacts:
    """What a card says of a category besides its plan."""

    name: str  # `<dataset>.<category>`
    samples: int
    bytes: int  # of its shards
    model: str  # hash of the weights
    measured: dict[str, str]  # figures of the samples, by their names in words
    shown: list[float]  # strengths of the samples in its row of the picture, ascending


def write_card(corpus: Location, recipe: CorpusRecipe, manifest: Manifest, **known: Any) -> None:
    """Writes the card of a corpus; see `render_card`."""
    write_text(corpus / CARD, render_card(recipe, manifest, **known))


def render_card(
    recipe: CorpusRecipe,
    manifest: Manifest,
    *,
    made: bool = True,
    facts: Sequence[CategoryFacts] = (),
    repository: str | None = None,
) -> str:
    """Renders the card of a corpus as Markdown.

    One that is only planned, such as that of `DATASET_CARD.md`, is not `made`. The facts are those
    of each category, if there is also a picture. The repository is `owner/name` on the Hub.
    """
    known = "synthetic" in recipe.title
    title = recipe.title if known else f"{recipe.title}, synthetic anomalies"
    first = manifest.shards[0]
    member = next(one for one in recipe.members if one.dataset == first.dataset)
    own_recipe = "recipe.yaml" if repository else f"{HERE}/recipe.yaml"
    return open_template("sia_gen.corpus", "card.md.jinja").render(
        title=title,
        metadata=CardData(**_metadata(recipe, manifest, title, made=made)).to_yaml(),
        recipe=recipe,
        linked=linked,
        manifest=manifest,
        made=made,
        facts=facts,
        picture=PICTURE,
        repository=repository,
        place=f"hf://datasets/{repository}" if repository else HERE,
        categories=_names(manifest),
        fields=list(json_schema(manifest.kind)),
        images=list(manifest.form.images),
        first=first,
        first_shards=_braces([shard for shard in manifest.shards if shard.name == first.name]),
        first_member=member,
        first_recipe=member.name if member.name in recipe_names() else own_recipe,
        license=strictest(member.license for member in recipe.members),
    )


def linked(recipe: Recipe) -> str:
    """Returns the title of a data set in Markdown, with a link to its source."""
    link = f"[{recipe.title}]({recipe.source})"
    return link if ADDRESS.fullmatch(recipe.source) else f"{recipe.title} ({recipe.source})"


def _braces(shards: Sequence[ShardPlan]) -> str:
    """Returns a pattern for the shards of a category that webdataset expands."""
    folder, _, last = shards[-1].path.rpartition("/")
    number, count = len(shards) - 1, last.rpartition("-of-")[2]
    return f"{folder}/train-{{00000..{number:05d}}}-of-{count}"


def _metadata(
    recipe: CorpusRecipe, manifest: Manifest, title: str, *, made: bool
) -> dict[str, Any]:
    """Returns licence, tags, size, one config per category and one of all, and the features."""
    configs = [{"config_name": "default", "data_files": "data/*/*/train-*.tar", "default": True}]
    configs += [
        {"config_name": name, "data_files": f"data/{name.replace('.', '/')}/train-*.tar"}
        for name in _names(manifest)
    ]
    segmented = manifest.kind != SAMPLES
    sizes = [name for end, name in SIZES.items() if manifest.samples < end]
    metadata = {
        "pretty_name": title,
        **hub_license(strictest(member.license for member in recipe.members)),
        "task_categories": ["image-segmentation" if segmented else "image-classification"],
        "size_categories": [sizes[0] if sizes else "10M<n<100M"],
        "tags": ["webdataset", "anomaly-detection", "synthetic", "sia-gen"],
        "configs": configs,
    }
    if made:
        # From the first samples alone, `datasets` would guess other features.
        metadata["dataset_info"] = [
            {"config_name": config["config_name"], "features": _features(manifest)}
            for config in configs
        ]
    return metadata


def _features(manifest: Manifest) -> list[dict[str, Any]]:
    """Declares the features of a sample for `datasets`."""
    members = [
        {"name": name, "dtype": FEATURE_TYPES[kind]}
        for name, kind in json_schema(manifest.kind).items()
    ]
    return [
        *({"name": name, "dtype": "image"} for name in manifest.form.images),
        {"name": "json", "struct": members},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def _names(manifest: Manifest) -> list[str]:
    return list(dict.fromkeys(shard.name for shard in manifest.shards))


def strictest(licenses: Iterable[str]) -> str:
    """Returns the licence that satisfies several licences, as the Hub names it.

    What any of several Creative Commons licences asks for, the result asks for. One that is not
    stated, or not known here, counts as stricter than all that allow commercial use, but does not
    hide that another forbids it.
    """
    stated = list(dict.fromkeys(map(canonical, licenses)))
    if len(stated) == 1:
        return stated[0]
    matches = [match for one in stated if (match := CREATIVE_COMMONS.fullmatch(one))]
    demands = {demand for match in matches for demand in match[1].split("-")}
    foreign = [
        one for one in stated if one not in PERMISSIVE and not CREATIVE_COMMONS.fullmatch(one)
    ]
    if foreign and "nc" not in demands:
        return foreign[0]
    if not matches:
        return stated[0]
    # Without derivatives there are none to share alike.
    order = ("by", "nc", "nd") if "nd" in demands else ("by", "nc", "sa")
    kept = "-".join(demand for demand in order if demand in demands)
    return f"cc-{kept}-{max(match[2] for match in matches)}"


def canonical(name: str) -> str:
    """Returns a licence as the Hub writes it if it is known here, else as it is."""
    written = re.sub(r"[\s_-]+", "-", name.strip().lower())
    known = written in NAMED or CREATIVE_COMMONS.fullmatch(written)
    return written if known else name


def hub_license(name: str) -> dict[str, str]:
    """Returns the metadata of a card for a licence."""
    name = canonical(name)
    if name in NAMED:
        return {"license": name}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", name.lower())}
