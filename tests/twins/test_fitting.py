"""RealNet learns from twins and their masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import TwinSource, open_sources, useful_twins
from sia_gen.config.recipe import Recipe
from sia_gen.corpus import reading
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import TWINS, SampleForm
from sia_gen.errors import CorpusError
from sia_gen.images.by_number import Padded
from sia_gen.images.squares import Area
from sia_gen.realnet.fitting import fit_realnet
from tests.anomalies.conftest import ArraySource
from tests.conftest import recipe_content
from tests.corpus.conftest import RUNTIME
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus
    from tests.twins.conftest import MakeTwins

SIDE = 32


class Handmade:
    """Twins by number: grey 100, and 100 + number where the mask, 10 * number rows, is."""

    corpus = "handmade"

    def __str__(self) -> str:
        return "handmade"

    form = SampleForm(TWINS, "png", "L", SIDE)

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        self.total = len(rows)
        self.mask_areas = np.array(rows) / SIDE

    def read(self, number: int) -> tuple[dict[str, Any], dict[str, Image.Image]]:
        rows = self.rows[number % self.total]
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[:rows] = 255
        normal = np.full((SIDE, SIDE), 100, np.uint8)
        pictures = {"image.png": normal + mask // 5, "normal.png": normal, "mask.png": mask}
        images = {name: Image.fromarray(pixels) for name, pixels in pictures.items()}
        return {"index": number, "mask_area": rows / SIDE}, images


def source(rows: list[int], size: int = SIDE) -> TwinSource:
    """Those of them whose masks cover a tenth to half of the image."""
    content = recipe_content()
    content["realnet"] |= {"image_size": size, "mask_area": (0.1, 0.5)}
    return useful_twins(Recipe.parse(content, where="test"), Handmade(rows))


def anomalies(rows: list[int], fraction: float, **options: Any) -> LocalAnomalies:
    white = np.full((1, 1, SIDE, SIDE), 255, np.uint8)
    return LocalAnomalies(
        normal=white,
        sources=[ArraySource(np.zeros_like(white))],
        anomalous_fraction=1.0,
        twins=[source(rows)],
        twin_fraction=fraction,
        **options,
    )


def test_images_and_mask_belong_together() -> None:
    anomalous, normal, mask = anomalies([8], 1.0).sample(0, np.random.default_rng(0), 0)
    expected = np.zeros((1, SIDE, SIDE), np.float32)
    expected[:, :8] = 1
    assert (anomalous.dtype, normal.dtype, mask.dtype) == (np.float32,) * 3
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_allclose(normal, 100 / 255, rtol=1e-6)
    np.testing.assert_allclose(anomalous, (100 + 51 * expected) / 255, rtol=1e-6)


def test_they_are_flipped_together() -> None:
    turned = 0
    for seed in range(20):
        made = anomalies([8], 1.0, vertical_flip=True).sample(0, np.random.default_rng(seed), 0)
        anomalous, normal, mask = made
        np.testing.assert_allclose(anomalous - normal, mask * np.float32(51 / 255), atol=1e-6)
        turned += bool(mask[0, -1, 0])
    assert 0 < turned < 20


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.0, 0, 0), (0.5, 35, 65), (1.0, 100, 100)])
def test_share_of_twins_is_that_of_the_recipe(fraction: float, low: int, high: int) -> None:
    rng = np.random.default_rng(0)
    made = [anomalies([8], fraction).sample(0, rng, number) for number in range(100)]
    # Pieces are pasted into white images.
    assert low <= sum(bool((normal < 0.5).all()) for _, normal, _ in made) <= high


@pytest.mark.parametrize("number", range(4))
def test_masks_of_no_use_are_passed_over(number: int) -> None:
    # Empty, too large, good, empty: from anywhere it is the third.
    assert (source([0, 30, 8, 1]).draw(number).mask == 255).mean() == 8 / SIDE


def test_corpus_without_a_useful_mask_is_refused() -> None:
    with pytest.raises(
        CorpusError, match=r"no mask of handmade covers 10.00 % to 50 % of its image"
    ):
        source([0, 1, 32]).draw(0)


def test_images_are_enlarged_and_masks_stay_masks() -> None:
    twin = source([8], size=50).draw(0)
    assert [part.shape for part in twin] == [(1, 50, 50)] * 3
    assert set(np.unique(twin.mask)) == {0, 255}
    assert (twin.mask > 0).mean() == pytest.approx(8 / SIDE, abs=0.02)


def test_anomalies_are_moved_to_the_sharp_photographs_of_the_twins() -> None:
    # Of the same grey as the twins once it is reduced.
    sharp = np.tile(np.array([[70, 130], [130, 70]], np.uint8), (SIDE, SIDE))[None]
    photographs = np.stack([255 - 0 * sharp, sharp])
    from_photographs = replace(source([8, 8], size=2 * SIDE), photographs=photographs)
    other, twin = from_photographs.draw(0), from_photographs.draw(1)
    # The first photograph is white, so the first twin did not start from it.
    assert (other.normal == 100).all()
    assert np.array_equal(twin.normal, sharp)
    inside, outside = twin.mask[0] > 0, np.arange(2 * SIDE) > 20
    assert np.abs(twin.anomalous[0, :14].astype(int) - sharp[0, :14] - 51).max() <= 3
    assert np.array_equal(twin.anomalous[0, outside], sharp[0, outside])
    assert inside.mean() == pytest.approx(8 / SIDE, abs=0.02)


def test_anomalies_are_not_moved_to_the_padding_of_photographs() -> None:
    photographs = np.full((1, 1, SIDE, SIDE), 100, np.uint8)
    area = Area(4, 20, 0, SIDE)
    padded = replace(source([8]), photographs=Padded(photographs, [area]))
    twin = padded.draw(0)
    marked = np.zeros((1, SIDE, SIDE), bool)
    marked[:, 4:8] = True
    assert np.array_equal(twin.mask, np.where(marked, 255, 0))
    assert np.array_equal(twin.anomalous, np.where(marked, 151, 100))
    assert np.array_equal(twin.normal, photographs[0])


@pytest.fixture
def boxes(make_twins: MakeTwins) -> tuple[Path, Recipe]:
    """A corpus of twins that differ in boxes, with its recipe, of two steps."""
    changes = {"synthesis.strength": 3, "synthesis.steps": 6, "synthesis.images": 8}
    corpus, maker = make_twins(twins={"region": "box"}, changes=changes, categories=["disc"])
    recipe = maker.recipe.override({"realnet.max_steps": 2})
    assert isinstance(recipe, Recipe)
    return corpus, recipe


@pytest.mark.parametrize("kind", ["twins", "mixed", "perlin"])
def test_realnet_is_fitted_to_twins_with_and_without_workers(
    boxes: tuple[Path, Recipe],
    photographs: Path,
    tmp_path: Path,
    workers: Callable[[int], None],
    kind: str,
) -> None:
    corpus, recipe = boxes
    asked = recipe.override({"realnet.anomalies": kind})
    fitted = []
    for count in (0, 2):
        workers(count)
        out = tmp_path / f"fitted-{count}"
        fit_realnet(asked, ["disc"], photographs, corpus, out, RUNTIME)
        fitted.append(load_file(out / "disc/model.safetensors"))
    assert all(torch.equal(fitted[1][name], value) for name, value in fitted[0].items())


def test_what_is_validated_on_is_not_learnt_from(
    boxes: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, recipe = boxes
    # Useful are the first twins alone: the shares of twins and of pieces would overlap.
    areas = [0.2, 0.2, 0.2, 0.2, 0, 0, 0, 0]
    read = SampleReader.__init__

    def opened(self: SampleReader, *place: Any) -> None:
        read(self, *place)
        self.mask_areas[:] = areas

    monkeypatch.setattr(SampleReader, "__init__", opened)
    asked = recipe.override({"realnet.anomalies": "mixed"})
    _, pieces, twins = open_sources(asked, "disc", corpus)
    learned = {*pieces.fit.numbers, *twins.fit.numbers}
    kept = {*pieces.validation.numbers, *twins.validation.numbers}
    assert (learned, kept) == ({0, 1, 2}, {3, 4, 5, 6, 7})
    assert set(twins.validation.numbers) == {3}


def test_only_twins_that_are_used_are_read(
    boxes: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, recipe = boxes
    reader = SampleReader(corpus, "parts", "disc")
    # One mask in eight is useful.
    reader.mask_areas[:] = [0, 0, 0.2, 0, 0, 0, 0, 0.9]
    source, read = useful_twins(recipe, reader), []
    monkeypatch.setattr(reading, "read_range", partial(counted, reading.read_range, read))
    # Eight workers, each with batches of its own.
    for worker in range(8):
        for number in range(worker, 400, 8):
            source.draw(number)
    assert len(read) == 400


def counted(read: Callable[..., bytes], counts: list[int], *place: Any) -> bytes:
    counts.append(1)
    return read(*place)


def test_model_says_what_it_was_fitted_to(
    boxes: tuple[Path, Recipe], photographs: Path, tmp_path: Path
) -> None:
    corpus, recipe = boxes
    asked = recipe.override({"realnet.anomalies": "twins"})
    fit_realnet(asked, ["disc"], photographs, corpus, tmp_path / "out", RUNTIME)
    report = json.loads((tmp_path / "out/disc/fit.json").read_text())
    assert report["corpus"]["disc"] == SampleReader(corpus, "parts", "disc").describe()
    # A corpus may be named by a path of this machine, and a model be published.
    assert report["corpus"]["disc"]["place"] == corpus.name
    assert str(tmp_path) not in json.dumps(report)
    assert report["corpus"]["disc"]["strengths"] == ["white 3.0"]
    assert report["photographs"]["files"] == 12


def test_reader_gives_the_abnormal_image_of_a_twin(make_twins: MakeTwins) -> None:
    corpus, _ = make_twins(categories=["disc"])
    reader = SampleReader(corpus, "parts", "disc")
    for number, sample in enumerate(read(corpus).values()):
        np.testing.assert_array_equal(np.asarray(reader[number][1]), sample["image.png"])


@pytest.mark.parametrize("kind", ["twins", "mixed"])
def test_corpus_without_twins_is_refused(
    corpus: HandmadeCorpus, recipe: Recipe, photographs: Path, tmp_path: Path, kind: str
) -> None:
    asked = recipe.override({"realnet.anomalies": kind})
    with pytest.raises(CorpusError, match="holds samples, not twins"):
        fit_realnet(asked, ["disc"], photographs, corpus.folder, tmp_path / "out", RUNTIME)
    assert not (tmp_path / "out").exists()
