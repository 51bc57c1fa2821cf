"""Sources: SDAS samples one after another, augmented textures, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.errors import CorpusError, ImageError, OptionError
from sia_gen.realnet.sources import make_source
from sia_gen.recipe import Recipe
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
    source = make_source(change(recipe, opacity=[0.3, 0.4]), "disc", corpus.folder)
    made = [image for shard in corpus.plan for _, image in corpus.samples(shard)]
    for number in range(7):
        piece = source.draw(number, rng())
        expected = made[number % 5].resize((64, 64), Image.Resampling.BICUBIC)
        assert np.array_equal(piece.pixels[0], np.asarray(expected))
        assert piece.opacity == (0.3, 0.4)


def test_textures_need_no_corpus_and_follow_from_the_randomness_alone(
    recipe: Recipe, textures: Path, tmp_path: Path
) -> None:
    settings = {"source": "dtd", "textures": str(textures), "texture_opacity": [0.1, 0.9]}
    source = make_source(change(recipe, **settings), "disc", tmp_path / "nowhere")
    pieces = [source.draw(number, rng(number)) for number in range(20)]
    assert all(piece.pixels.shape == (1, 64, 64) for piece in pieces)
    assert all(piece.pixels.dtype == np.uint8 for piece in pieces)
    assert {piece.opacity for piece in pieces} == {(0.1, 0.9)}
    assert len({piece.pixels.tobytes() for piece in pieces}) == 20
    again = source.draw(99, rng(3))
    assert np.array_equal(again.pixels, pieces[3].pixels)


def test_mixed_takes_both_equally_often(
    recipe: Recipe, corpus: HandmadeCorpus, textures: Path
) -> None:
    mixed = change(recipe, source="mixed", textures=str(textures))
    source = make_source(mixed, "disc", corpus.folder)
    opacities = [source.draw(0, rng(seed)).opacity for seed in range(200)]
    assert set(opacities) == {(0.5, 1.0), (0.2, 1.0)}
    assert 70 < opacities.count((0.5, 1.0)) < 130


@pytest.mark.parametrize("source", ["dtd", "mixed"])
def test_textures_that_nobody_named_or_that_are_not_there_are_refused(
    recipe: Recipe, corpus: HandmadeCorpus, tmp_path: Path, source: str
) -> None:
    with pytest.raises(OptionError, match="--textures"):
        make_source(change(recipe, source=source), "disc", corpus.folder)
    empty = change(recipe, source=source, textures=str(tmp_path / "nothing"))
    with pytest.raises(ImageError, match=r"no images of textures in .*nothing"):
        make_source(empty, "disc", corpus.folder)


def test_corpus_without_the_category_is_refused(recipe: Recipe, corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match="has no category 'plate'"):
        make_source(recipe, "plate", corpus.folder)
