"""Samples that are whole photographs, of which some tiles were disturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen.anomalies.sources import open_sources
from sia_gen.composition.compose import compose
from sia_gen.config.recipe import DatasetCategory, Recipe, choose_categories
from sia_gen.corpus.cutting import tile_of
from sia_gen.corpus.estimate import estimate
from sia_gen.corpus.generate import remake
from sia_gen.corpus.manifest import read_manifest
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import TWINS as KIND
from sia_gen.corpus.schema import json_schema
from sia_gen.corpus.verify import find_problems, verify
from sia_gen.errors import ImageError, OptionError, RecipeError
from sia_gen.images.listing import list_images
from sia_gen.inspection.inspect import inspect_corpus
from sia_gen.realnet.preparation import fit_data, load_normal
from sia_gen.twins import starts
from sia_gen.twins.maker import TwinMaker
from sia_gen.twins.starts import StartTiles
from tests.corpus.conftest import RUNTIME
from tests.twins.conftest import SIDE, TILED, read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

TWINS = {"source": "image", "region": "box", "tiles": 3}
pytestmark = pytest.mark.usefixtures("anything_is_a_difference")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs of several sizes."""
    root = tmp_path / "photographs"
    for folder in ("train/good", "test/good", "test/scratch"):
        (root / "disc" / folder).mkdir(parents=True)
        for number, shape in enumerate([(48, 80), (64, 40), (50, 50), (48, 80)]):
            pixels = np.random.default_rng(number).integers(60, 200, shape, np.uint8)
            Image.fromarray(pixels).save(root / f"disc/{folder}/{number}.png")
    return root


def test_samples_are_photographs_with_changes_in_some_tiles(
    make_twins: MakeTwins, photographs: Path
) -> None:
    everywhere = TWINS | {"region": "everywhere"}
    corpus, maker = make_twins("corpus", everywhere, TILED, categories=["disc"])
    verify(corpus)
    assert read_manifest(corpus).tile == SIDE
    paths = list_images(maker.recipe, photographs, "disc").fit
    places = maker.open_starts("parts.disc", SIDE)
    assert isinstance(places, StartTiles)
    counts = set()
    for sample in read(corpus).values():
        metadata = sample["json"]
        assert metadata.keys() == json_schema(KIND).keys()
        whole = np.asarray(Image.open(paths[metadata["index"] % len(paths)]))
        assert np.array_equal(sample["normal.png"], whole)
        assert (metadata["height"], metadata["width"]) == whole.shape
        assert metadata["mask_area"] == pytest.approx((sample["mask.png"] > 0).mean())
        drawn = places.draw_places(metadata["index"], metadata["seed"], 3)
        counts.add(len(drawn))
        inside = np.zeros(whole.shape, bool)
        for _, top, left in drawn:
            inside[top : top + SIDE, left : left + SIDE] = True
        changed = sample["image.png"] != whole
        assert changed.any()
        assert not (changed | (sample["mask.png"] > 0))[~inside].any()
        # The outermost pixels of tiles have no weight, except where photographs end.
        assert not changed[edges(drawn, whole.shape)].any()
    assert len(counts) > 1


def edges(places: list[starts.Place], shape: tuple[int, ...]) -> np.ndarray:
    """The outermost pixels of tiles where only one tile is, inside a photograph."""
    count, border = np.zeros(shape, int), np.zeros(shape, bool)
    for _, top, left in places:
        count[top : top + SIDE, left : left + SIDE] += 1
        tile = np.zeros((SIDE, SIDE), bool)
        tile[0] = top > 0
        tile[-1] |= top + SIDE < shape[0]
        tile[:, 0] |= left > 0
        tile[:, -1] |= left + SIDE < shape[1]
        border[top : top + SIDE, left : left + SIDE] |= tile
    return border & (count == 1)


def test_any_process_makes_the_same_photographs(
    make_twins: MakeTwins, models: Path, tmp_path: Path, photographs: Path
) -> None:
    corpus, maker = make_twins("corpus", TWINS, TILED, categories=["disc"])
    key = "parts_disc_00000003"
    files = remake(
        maker.recipe,
        key,
        models,
        tmp_path / "again",
        RUNTIME,
        maker=TwinMaker(maker.recipe, choose_categories(maker.recipe, ["disc"]), photographs),
    )
    sample = read(corpus)[key]
    assert len(files) == 4
    for path in files:
        content = sample[path.name.partition(".")[2]]
        if path.suffix == ".json":
            assert json.loads(path.read_text()) == content
        else:
            assert np.array_equal(np.asarray(Image.open(str(path))), content)


def test_tiles_of_a_sample_share_its_edit(make_twins: MakeTwins, photographs: Path) -> None:
    edits = TWINS | {"edit": ["shift", "mirror", "swap"], "region": "everywhere"}
    corpus, _ = make_twins(
        "corpus", edits, TILED | {"synthesis.strength": 0.0}, categories=["disc"]
    )
    samples = read(corpus).values()
    assert {sample["json"]["edit"] for sample in samples} <= {"shift", "mirror", "swap"}
    assert all((sample["image.png"] != sample["normal.png"]).any() for sample in samples)


def test_a_detector_learns_from_tiles_around_the_changes(
    make_twins: MakeTwins, photographs: Path
) -> None:
    corpus, maker = make_twins("corpus", TWINS, TILED, categories=["disc"])
    recipe = maker.recipe
    normal = load_normal(recipe, {"disc": list_images(recipe, photographs, "disc")})
    twins = fit_data(recipe, normal, [open_sources(recipe, "disc", corpus)]).fit.twins[0]
    first, later = (twins.draw(number) for number in (0, 7 * len(twins.numbers)))
    for twin in (first, later):
        assert twin.mask.shape == twin.normal.shape == twin.anomalous.shape == (1, 32, 32)
        assert twin.mask.any()
    assert not np.array_equal(first.normal, later.normal)


def test_tiles_of_photographs_show_their_anomaly(make_twins: MakeTwins, photographs: Path) -> None:
    corpus, _ = make_twins("corpus", TWINS, TILED, categories=["disc"])
    reader = SampleReader(corpus, "parts", "disc")
    for number in range(reader.total):
        sample = reader.read(number)
        for turn in range(5):
            _, images = tile_of(sample, reader.form, turn)
            assert {image.size for image in images.values()} == {(SIDE, SIDE)}
            assert np.asarray(images["mask.png"]).any()


def test_the_page_of_a_corpus_shows_tiles(
    make_twins: MakeTwins, photographs: Path, tmp_path: Path
) -> None:
    changes = TILED | {"data.tile.size": 24}
    corpus, _ = make_twins("corpus", TWINS, changes, categories=["disc"])
    path = inspect_corpus(corpus, photographs, None, None, tmp_path / "page", RUNTIME)
    page = path.read_text()
    assert "parts.disc: twins" in page
    assert "whole photographs" in page
    card = (corpus / "README.md").read_text()
    assert "whole photographs, made by" in card
    assert "Tiles were disturbed in the photographs" in card


def test_compose_shows_the_photographs(
    make_twins: MakeTwins, photographs: Path, tmp_path: Path
) -> None:
    corpus, maker = make_twins("corpus", TWINS, TILED, categories=["disc"])
    out = tmp_path / "composed"
    compose(maker.recipe, ["disc"], photographs, corpus, out, "folder", None)
    samples = read(corpus)
    for line in map(json.loads, (out / "disc/triplets.jsonl").read_text().splitlines()):
        picture = Image.open(out / f"disc/test/synthetic/{line['key']}.png")
        assert np.array_equal(np.asarray(picture), samples[line["key"]]["image.png"])


@pytest.mark.parametrize("field", ["width", "height"])
def test_images_of_another_size_than_their_metadata_say_are_found(
    make_twins: MakeTwins, photographs: Path, field: str
) -> None:
    corpus, _ = make_twins("corpus", TWINS, TILED, categories=["disc"])
    shard = min(corpus.glob("data/**/*.tar"))
    content = shard.read_bytes()
    assert b'"width": 80' in content
    before = f'"{field}": '.encode()
    place = content.index(before) + len(before)
    shard.write_bytes(content[:place] + b"99" + content[place + 2 :])
    found = [problem.text for problem in find_problems(corpus)]
    assert any("pixels, not" in text for text in found), found


def test_plans_count_tiles(recipe: Recipe, models: Path) -> None:
    changed = recipe.override(TILED | {"synthesis.twins": TWINS | {"start": 1.0}})
    text = estimate(changed, choose_categories(changed, ["disc"]), models, RUNTIME)
    # Six steps of both twins for two tiles on average, in each of five samples.
    assert "120 (24 per sample)" in text
    assert "two photographs and a mask" in text


def test_photographs_that_cannot_be_samples_are_refused(
    make_twins: MakeTwins, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "LARGEST_PHOTOGRAPH", 1000)
    with pytest.raises(ImageError, match="too large for a sample"):
        make_twins("corpus", TWINS, TILED, categories=["disc"])


def test_tiles_need_photographs_that_are_cut(
    make_twins: MakeTwins, recipe: Recipe, photographs: Path
) -> None:
    with pytest.raises(OptionError, match="are not cut into tiles"):
        make_twins("corpus", TWINS, {"synthesis.strength": "3"}, categories=["disc"])
    small, large = (
        recipe.override(TILED | {"synthesis.twins": TWINS, "data.tile.size": side})
        for side in (16, 24)
    )
    places = [DatasetCategory(small, "disc"), DatasetCategory(large, "plate")]
    with pytest.raises(OptionError, match="are cut into tiles of different sizes"):
        TwinMaker(small, places, photographs)
    with pytest.raises(RecipeError, match="tiles needs photographs to start from"):
        recipe.override({"synthesis.twins": {"tiles": 2}})
