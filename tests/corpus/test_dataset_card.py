"""DATASET_CARD.md is the card of `sia-360k`, as the code renders it."""

from __future__ import annotations

from pathlib import Path

from sia_gen.config.recipe import all_categories, load_corpus_recipe
from sia_gen.corpus.card import render_card
from sia_gen.corpus.manifest import Manifest
from sia_gen.corpus.output import recipe_fields
from sia_gen.corpus.plan import plan_corpus

CARD = Path(__file__).parents[2] / "DATASET_CARD.md"
OUTDATED = (
    "DATASET_CARD.md is out of date. Run: "
    "python -c 'from tests.corpus.test_dataset_card import *; CARD.write_text(rendered())'"
)


def rendered() -> str:
    """The card of a corpus of which no shard was made."""
    recipe = load_corpus_recipe("sia-360k")
    settings = recipe.synthesis
    manifest = Manifest(
        **recipe_fields(recipe),
        images=settings.images,
        perturbation=settings.perturbation,
        strength=str(settings.strength),
        steps=settings.steps,
        sampler="PerturbedDDPMScheduler",
        guidance_scale=settings.guidance_scale,
        batch_size=settings.batch_size,
        precision="no",
        compiled=False,
        channels_last=True,
        format=settings.format,
        image_size=recipe.members[0].diffusion.image_size,
        kind="samples",
        shards=plan_corpus(all_categories(recipe), settings),
    )
    return render_card(recipe, manifest, made=False)


def test_dataset_card_is_up_to_date() -> None:
    assert CARD.read_text(encoding="utf-8") == rendered(), OUTDATED


def test_dataset_card_says_what_there_is_and_what_is_not() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert "**This corpus has not been generated yet.**" in text
    assert "360,000 synthetic images of 36 categories" in text
    assert "license: cc-by-nc-sa-4.0" in text
    assert text.count("its authors state no licence") == 2
