"""The shipped recipes state what the paper and the data sets' authors say."""

from __future__ import annotations

import pytest

from sia_gen.config.data import Foreground
from sia_gen.config.recipe import Recipe

PAPER = ["mvtec-ad", "visa", "mpdd", "btad"]
NUMBERS = {"mvtec-ad": 15, "visa": 12, "mpdd": 6, "btad": 3}
LICENCES = {
    "mvtec-ad": "cc-by-nc-sa-4.0",
    "visa": "cc-by-4.0",
    "mpdd": "unknown",
    "btad": "unknown",
    "elpv": "cc-by-nc-sa-4.0",
    "demo": "cc-by-nc-sa-4.0",
}
# (method, polarity, channel, close, open) and the categories that have it.
RULES = {
    "mvtec-ad": {
        ("none", "bright", "grey", 0, 0): "carpet leather tile wood cable transistor",
        ("otsu", "bright", "grey", 6, 6): "pill",
        ("triangle", "bright", "grey", 6, 6): "hazelnut metal_nut toothbrush",
        ("otsu", "dark", "grey", 6, 6): "bottle capsule grid screw zipper",
    },
    "visa": {
        ("none", "bright", "grey", 0, 0): "capsules",
        ("triangle", "bright", "blue", 8, 3): "pcb1 pcb2 pcb3 pcb4",
        ("otsu", "bright", "grey", 3, 3): "candle cashew chewinggum fryum macaroni1 macaroni2 "
        "pipe_fryum",
    },
    "mpdd": {
        ("otsu", "dark", "green", 6, 0): "bracket_black bracket_brown connector",
        ("otsu", "bright", "blue", 6, 0): "bracket_white tubes",
        ("otsu", "dark", "grey", 6, 0): "metal_plate",
    },
    "btad": {
        ("none", "bright", "grey", 0, 0): "02",
        ("otsu", "bright", "grey", 15, 6): "01 03",
    },
}


def test_the_four_data_sets_have_36_categories() -> None:
    numbers = {name: len(set(Recipe.load(name).categories)) for name in PAPER}
    assert numbers == NUMBERS
    assert sum(numbers.values()) == 36


@pytest.mark.parametrize("name", PAPER)
def test_every_category_has_the_rule_of_the_authors(name: str) -> None:
    recipe = Recipe.load(name)
    expected = {
        category: Foreground.model_validate(
            dict(zip(("method", "polarity", "channel", "close", "open"), rule, strict=True))
        )
        for rule, categories in RULES[name].items()
        for category in categories.split()
    }
    assert recipe.foreground == expected
    assert set(expected) == set(recipe.categories)


@pytest.mark.parametrize("name", LICENCES)
def test_licence_is_the_hub_s_identifier(name: str) -> None:
    assert Recipe.load(name).license == LICENCES[name]


@pytest.mark.parametrize("name", PAPER)
def test_sizes_are_the_paper_s(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.mode == "RGB"
    assert recipe.source.startswith("http")
    assert (recipe.diffusion.image_size, recipe.realnet.image_size) == (256, 256)
    assert (recipe.diffusion.preset, recipe.diffusion.variance) == ("base", "learned_range")
    assert (recipe.synthesis.images, recipe.synthesis.steps) == (10_000, 20)
    assert (recipe.synthesis.strength, recipe.realnet.opacity) == ("0.1:0.2", (0.5, 1.0))
    assert recipe.realnet.backbone == "wide_resnet50_2"
    assert recipe.realnet.channels_kept == [256, 512, 512, 256]
    assert (recipe.realnet.batch_size, recipe.realnet.learning_rate) == (16, 1e-4)


@pytest.mark.parametrize("name", PAPER)
def test_nothing_is_flipped_that_might_be_normal_one_way_round(name: str) -> None:
    recipe = Recipe.load(name)
    for section in (recipe.diffusion, recipe.realnet):
        assert not section.horizontal_flip
        assert not section.vertical_flip
