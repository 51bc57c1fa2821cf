"""The card: metadata that the Hub and `load_dataset` understand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from datasets import Features, Image, Value, load_dataset
from huggingface_hub import DatasetCard

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.card import render_card, write_card
from sia_gen.corpus.manifest import read_manifest
from sia_gen.corpus.schema import SampleMetadata

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus

DTYPES: dict[Any, str] = {str: "string", int: "int64", float: "float64"}
STRUCT = {field.name: Value(DTYPES[field.type]) for field in fields(SampleMetadata)}
CONFIGS = {"default": ("disc", "plate"), "parts.disc": ("disc",), "parts.plate": ("plate",)}


@pytest.fixture(params=["png", "webp"])
def corpus(
    make_corpus: Callable[..., HandmadeCorpus], recipe: Recipe, request: pytest.FixtureRequest
) -> HandmadeCorpus:
    """Two categories with their card."""
    corpus = make_corpus(categories=("disc", "plate"), image_format=request.param)
    write_card(corpus.folder, recipe, corpus.manifest)
    return corpus


def load(corpus: HandmadeCorpus, config: str, **options: Any) -> Any:
    cache = str(corpus.folder.parent / "cache")
    return load_dataset(str(corpus.folder), config, split="train", cache_dir=cache, **options)


def features(corpus: HandmadeCorpus) -> Features:
    return Features(
        {
            corpus.image_format: Image(),
            "json": STRUCT,
            "__key__": Value("string"),
            "__url__": Value("string"),
        }
    )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_datasets_loads_every_config_with_the_declared_features(
    corpus: HandmadeCorpus, config: str, streaming: bool
) -> None:
    loaded = load(corpus, config, streaming=streaming)
    assert loaded.features == features(corpus)
    samples = list(loaded)
    made = [
        sample
        for shard in corpus.plan
        if shard.category in CONFIGS[config]
        for sample in corpus.samples(shard)
    ]
    assert [sample["json"] for sample in samples] == [asdict(metadata) for metadata, _ in made]
    assert [sample["__key__"] for sample in samples] == [metadata.key for metadata, _ in made]
    for sample, (_, image) in zip(samples, made, strict=True):
        pixels = np.asarray(sample[corpus.image_format].convert("L"))
        assert np.array_equal(pixels, np.asarray(image))


def test_front_matter_parses_as_a_card_of_the_hub(corpus: HandmadeCorpus, recipe: Recipe) -> None:
    card = DatasetCard.load(corpus.folder / "README.md")
    assert card.data.license == recipe.license
    assert card.data.pretty_name == "Generated parts, synthetic anomalies"
    assert "webdataset" in card.data.tags
    assert [config["config_name"] for config in card.data.configs] == list(CONFIGS)
    assert card.data.configs[0]["default"] is True


def test_card_of_a_run_that_was_killed_does_not_deny_its_shards(
    corpus: HandmadeCorpus, recipe: Recipe
) -> None:
    planned = read_manifest(corpus.folder).with_shards(corpus.plan)
    write_card(corpus.folder, recipe, planned)
    card = DatasetCard.load(corpus.folder / "README.md")
    assert "not been generated" not in card.text
    assert card.data.to_dict()["dataset_info"]


def test_text_states_the_facts_of_the_corpus(corpus: HandmadeCorpus) -> None:
    text = DatasetCard.load(corpus.folder / "README.md").text
    assert "10 synthetic images of 2" in text
    assert "| disc, plate | 10 |" in text
    assert "8 x 8 pixels" in text
    assert f'to_tuple("{corpus.image_format}", "json")' in text
    assert all(f"`{field.name}`" in text for field in fields(SampleMetadata))
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://example.org/parts", "[Generated parts](https://example.org/parts)"),
        ("our camera", "Generated parts (our camera)"),
    ],
)
def test_source_is_a_link_if_it_is_an_address(
    corpus: HandmadeCorpus, recipe: Recipe, source: str, shown: str
) -> None:
    write_card(corpus.folder, recipe.override({"source": source}), corpus.manifest)
    text = (corpus.folder / "README.md").read_text()
    assert f"| {shown} | disc, plate | 10 |" in text
    assert f"- {shown}: cc0-1.0" in text


def test_title_of_any_characters_stays_valid_yaml(corpus: HandmadeCorpus, recipe: Recipe) -> None:
    title = "Größe: {{ 'a' }} - \"b\" # c"
    write_card(corpus.folder, recipe.override({"title": title}), corpus.manifest)
    card = DatasetCard.load(corpus.folder / "README.md")
    assert card.data.pretty_name == f"{title}, synthetic anomalies"


def test_card_tells_how_to_make_the_same_bytes(corpus: HandmadeCorpus, recipe: Recipe) -> None:
    def command(**changes: Any) -> str:
        manifest = corpus.manifest.model_copy(update=changes)
        changed = recipe.override({"synthesis.twins": {}}) if changes.get("kind") else recipe
        return (
            render_card(changed, manifest).partition("--precision fp32 ")[2].partition(" --out")[0]
        )

    assert command() == "--no-compile --channels-last"
    assert command(compiled=True) == "--compile --channels-last"
    assert command(channels_last=False) == "--no-compile --no-channels-last"
    assert command(kind="twins") == "--channels-last"
    assert command(kind="twins", channels_last=False) == "--no-channels-last"


def test_card_says_that_images_are_tiles(corpus: HandmadeCorpus, recipe: Recipe) -> None:
    tiled = recipe.override({"data.tile.size": 256, "data.tile.scale": 0.5})
    plain, card = (render_card(one, corpus.manifest) for one in (recipe, tiled))
    said = "are tiles of 256 x 256 pixels of photographs, at scale 0.5.\n\n"
    assert said in card
    assert "are tiles of" not in plain
