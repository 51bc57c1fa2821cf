"""Sources: SDAS samples one after another, augmented textures, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sia_gen.anomalies.sources import kept_apart, open_sources
from sia_gen.config.recipe import Recipe
from sia_gen.errors import CorpusError, ImageError, OptionError
from tests.conftest import recipe_content
from tests.corpus.conftest import HandmadeCorpus


@pytest.fixture
def corpus(tmp_path: Path) -> HandmadeCorpus:
    return HandmadeCorpus(tmp_path / "corpus")


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """Three textures in folders, one not square, and a file that is none."""
    rng = np.random.default_rng(0)
    for name, shape in {
        "a/1.png": (40, 40, 3),
        "a/2.JPG": (64, 48, 3),
        "b/c/3.png": (50, 50),
    }.items():
        path = tmp_path / "textures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    (tmp_path / "textures/readme.txt").write_text("not an image")
    return tmp_path / "textures"


def change(recipe: Recipe, **realnet: Any) -> Recipe:
    return recipe.override({f"realnet.{name}": value for name, value in realnet.items()})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sdas_gives_the_samples_in_their_order_at_the_size_of_training(
    recipe: Recipe, corpus: HandmadeCorpus
) -> None:
    parts = open_sources(change(recipe, opacity=[0.3, 0.4]), "disc", corpus.folder).pieces
    made = [image for shard in corpus.plan for _, image in corpus.samples(shard)]
    # A quarter of the five samples, the last, is for validation alone.
    for source, own in ((parts.fit, made[:4]), (parts.validation, made[4:])):
        for number in range(7):
            piece = source.draw(number, rng())
            expected = own[number % len(own)].resize((64, 64), Image.Resampling.BICUBIC)
            assert np.array_equal(piece.pixels[0], np.asarray(expected))
            assert piece.opacity == (0.3, 0.4)


def test_textures_need_no_corpus_and_follow_from_the_randomness_alone(
    recipe: Recipe, textures: Path, tmp_path: Path
) -> None:
    settings = {"source": "dtd", "textures": str(textures), "texture_opacity": [0.1, 0.9]}
    parts = open_sources(change(recipe, **settings), "disc", tmp_path / "nowhere").pieces
    pieces = [parts.fit.draw(number, rng(number)) for number in range(20)]
    assert all(piece.pixels.shape == (1, 64, 64) for piece in pieces)
    assert all(piece.pixels.dtype == np.uint8 for piece in pieces)
    assert {piece.opacity for piece in pieces} == {(0.1, 0.9)}
    assert len({piece.pixels.tobytes() for piece in pieces}) == 20
    again = parts.fit.draw(99, rng(3))
    assert np.array_equal(again.pixels, pieces[3].pixels)
    assert not set(parts.fit.paths) & set(parts.validation.paths)


def test_mixed_takes_both_equally_often(
    recipe: Recipe, corpus: HandmadeCorpus, textures: Path
) -> None:
    mixed = change(recipe, source="mixed", textures=str(textures))
    for source in open_sources(mixed, "disc", corpus.folder).pieces:
        opacities = [source.draw(0, rng(seed)).opacity for seed in range(200)]
        assert set(opacities) == {(0.5, 1.0), (0.2, 1.0)}
        assert 70 < opacities.count((0.5, 1.0)) < 130


FEW = CorpusError(problem="too few.", fix="Make more.")


@given(count=st.integers(2, 500), fraction=st.floats(0.001, 0.999))
def test_what_is_kept_for_validation_is_learnt_from_by_none(count: int, fraction: float) -> None:
    content = recipe_content()
    content["data"] |= {"validation_fraction": fraction}
    fit, validation = kept_apart(range(count), Recipe.parse(content, where="test"), FEW)
    assert [*fit, *validation] == [*range(count)]
    assert len(validation) == min(count - 1, max(1, round(fraction * count)))


def test_corpus_of_one_sample_is_refused(recipe: Recipe) -> None:
    with pytest.raises(CorpusError, match="too few"):
        kept_apart(range(1), recipe, FEW)


def test_nothing_is_kept_where_test_images_choose(recipe: Recipe, corpus: HandmadeCorpus) -> None:
    on_test = change(recipe, select_on="test")
    assert kept_apart(range(1), on_test, FEW) == (range(1), range(0))
    pieces = open_sources(on_test, "disc", corpus.folder).pieces
    assert [*pieces.fit.numbers] == [0, 1, 2, 3, 4]


def test_single_texture_is_refused(recipe: Recipe, textures: Path) -> None:
    settings = {"source": "dtd", "textures": str(textures / "b")}
    with pytest.raises(ImageError, match="single texture image"):
        open_sources(change(recipe, **settings), "disc", textures)


@pytest.mark.parametrize("source", ["dtd", "mixed"])
def test_textures_that_nobody_named_or_that_are_not_there_are_refused(
    recipe: Recipe, corpus: HandmadeCorpus, tmp_path: Path, source: str
) -> None:
    with pytest.raises(OptionError, match="--textures"):
        open_sources(change(recipe, source=source), "disc", corpus.folder)
    empty = change(recipe, source=source, textures=str(tmp_path / "nothing"))
    with pytest.raises(ImageError, match=r"no texture images in .*nothing"):
        open_sources(empty, "disc", corpus.folder)


def test_corpus_without_the_category_is_refused(recipe: Recipe, corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match=r"has no category 'parts\.plate'"):
        open_sources(recipe, "plate", corpus.folder)
