"""Twins that start from tiles of photographs, and the whole photographs with their anomalies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen.anomalies.sources import open_sources
from sia_gen.composition.compose import compose
from sia_gen.config.recipe import Recipe, choose_categories
from sia_gen.corpus.verify import verify
from sia_gen.images.by_number import Tiles
from sia_gen.images.listing import list_images
from sia_gen.images.shapes import settle_corpus
from sia_gen.realnet.preparation import fit_data, load_normal
from tests.twins.conftest import TILED, read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

TWINS = {"source": "image", "region": "box"}
pytestmark = pytest.mark.usefixtures("anything_is_a_difference")


def test_twins_are_tiles_and_compose_puts_them_back(
    make_twins: MakeTwins, photographs: Path, tmp_path: Path
) -> None:
    corpus, maker = make_twins("corpus", TWINS, TILED, categories=["disc"])
    verify(corpus)
    paths = list_images(maker.recipe, photographs, "disc").fit
    samples = read(corpus)
    for sample in samples.values():
        number, place = divmod(sample["json"]["index"], 4)
        whole = np.asarray(Image.open(paths[number]))
        top, left = 16 * (place // 2), 16 * (place % 2)
        assert np.array_equal(sample["normal.png"], whole[top : top + 16, left : left + 16])
    out = tmp_path / "composed"
    compose(maker.recipe, ["disc"], photographs, corpus, out, "folder", None)
    for line in map(json.loads, (out / "disc/triplets.jsonl").read_text().splitlines()):
        image, normal = (
            np.asarray(Image.open(out / f"disc/{folder}/synthetic/{line['key']}.png"))
            for folder in ("test", "normal")
        )
        number, place = divmod(line["index"], 4)
        assert np.array_equal(normal, np.asarray(Image.open(paths[number])))
        rows, columns = np.nonzero(image != normal)
        assert (2 * (rows // 16) + columns // 16 == place).all()
        assert (line["width"], line["height"]) == (32, 32)


def test_a_detector_learns_from_twins_in_the_tiles_that_they_started_from(
    make_twins: MakeTwins, photographs: Path
) -> None:
    corpus, maker = make_twins("corpus", TWINS, TILED, categories=["disc"])
    recipe = maker.recipe
    normal = load_normal(recipe, {"disc": list_images(recipe, photographs, "disc")})
    data = fit_data(recipe, normal, [open_sources(recipe, "disc", corpus)])
    tiles = normal["disc"].fit
    assert isinstance(tiles, Tiles)
    for number in data.fit.twins[0].numbers:
        metadata, twin = data.fit.twins[0].read(number)
        assert np.array_equal(twin.normal, tiles[metadata["index"] % len(tiles)])


def test_corpora_cut_photographs_as_the_model_did(
    recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = recipe.override({"data.tile.size": 16, "data.tile.scale": 0.5, "data.roi": [0, 0, 9, 9]})
    (tmp_path / "recipe.yaml").write_text(cut.to_yaml())
    settled = settle_corpus(recipe, choose_categories(recipe, None), None, [tmp_path])
    assert isinstance(settled, Recipe)
    assert settled.data == cut.data
    assert "Photographs are cut into tiles of 16, as in" in capfd.readouterr().err
