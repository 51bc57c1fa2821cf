"""The page of a corpus: what was planted in it is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.manifest import read_corpus
from sia_gen.errors import CorpusError, ModelError
from sia_gen.inspection.distance import load_normal
from sia_gen.inspection.inspect import inspect_corpus
from sia_gen.inspection.survey import survey_category
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from tests.corpus.conftest import SIZE, HandmadeCorpus

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def corpus(tmp_path: Path, recipe: Recipe) -> HandmadeCorpus:
    made = HandmadeCorpus(tmp_path / "corpus", categories=("disc", "plate"))
    (made.folder / "recipe.yaml").write_text(recipe.to_yaml())
    return made


def page_of(corpus: HandmadeCorpus, data: Path | None, *categories: str) -> str:
    out = corpus.folder.parent / "page"
    page = inspect_corpus(corpus.folder, data, categories or None, None, out, CPU)
    return page.read_text()


def test_page_shows_every_category(corpus: HandmadeCorpus, photographs: Path) -> None:
    page = page_of(corpus, photographs)
    for category in ("disc", "plate"):
        for section in ("", ": distance from the normal images", ": copies"):
            assert f"<h2>parts.{category}{section}</h2>" in page
    assert "10 samples of 2 categories, strength 0.0:0.5, perturbation white, 8 x 8 pixels." in page
    assert "No two of all 5 samples are equal." in page
    assert page.count('aria-label="samples by strength"') == 2
    assert page.count("<polyline") == 2
    assert "http" not in page, "the page loads nothing from elsewhere"


def test_one_category_is_shown_alone(corpus: HandmadeCorpus, photographs: Path) -> None:
    page = page_of(corpus, photographs, "plate")
    assert "parts.disc" not in page
    assert "5 samples of 1 category" in page


def test_without_normal_images_the_rest_is_shown(corpus: HandmadeCorpus) -> None:
    page = page_of(corpus, None)
    assert "give their folder with --data" in page
    assert "noise of the finest detail" in page
    assert "copies</h2>" not in page
    assert page.count('<div class="row">') == 2, "five pictures are one row"


def test_planted_duplicate_is_found_in_another_shard(
    corpus: HandmadeCorpus, photographs: Path
) -> None:
    shard = corpus.plan[1]
    (_, image), *_ = corpus.samples(corpus.plan[0])
    (metadata, _), *others = corpus.samples(shard)
    corpus.write(shard, [(metadata, image), *others])
    page = page_of(corpus, photographs, "disc")
    assert "equal pixel by pixel: parts_disc_00000000 = parts_disc_00000003." in page


def test_planted_copies_of_real_images_are_found(
    corpus: HandmadeCorpus, recipe: Recipe, photographs: Path
) -> None:
    assert "0 of 5 samples are nearer" in page_of(corpus, photographs, "disc")
    normal = load_normal(recipe, "disc", photographs, SIZE)
    for shard in corpus.plan[:2]:
        copies = [
            (metadata, Image.fromarray(normal.small[metadata.index, 0]))
            for metadata, _ in corpus.samples(shard)
        ]
        corpus.write(shard, copies)
    page = page_of(corpus, photographs, "disc")
    assert "5 of 5 samples are nearer" in page
    assert "the model may repeat its training images" in page
    assert f"<figcaption>{normal.paths[0].name}</figcaption>" in page


def test_one_strength_needs_no_curve(corpus: HandmadeCorpus, photographs: Path) -> None:
    for shard in corpus.plan:
        same = [
            (replace(metadata, strength=0.3), image) for metadata, image in corpus.samples(shard)
        ]
        corpus.write(shard, same)
    page = page_of(corpus, photographs, "disc")
    assert "<polyline" not in page
    assert "samples by strength" not in page


def test_survey_looks_at_samples_evenly_and_counts_all(
    corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sia_gen.inspection.survey.EXAMINED", 3)
    manifest = read_corpus(corpus.folder)
    shards = [shard for shard in manifest.records if shard.category == "disc"]
    survey = survey_category(corpus.folder, shards, manifest.form, Progress("x", 5))
    assert survey.strengths.shape == (5,)
    assert {metadata["key"][-1] for metadata, _ in survey.examined} == {"0", "2", "4"}
    assert list(survey.examined_strengths) == sorted(survey.examined_strengths)
    assert survey.pixels.shape == (3, 1, SIZE, SIZE)
    every = {m.key: image for shard in corpus.plan for m, image in corpus.samples(shard)}
    for (metadata, _), pixels in zip(survey.examined, survey.pixels, strict=True):
        assert np.array_equal(pixels[0], np.asarray(every[metadata["key"]]))


def test_damaged_shard_is_one_error(corpus: HandmadeCorpus, photographs: Path) -> None:
    corpus.path(0).write_bytes(corpus.path(0).read_bytes()[:1000])
    with pytest.raises(CorpusError, match="is damaged"):
        page_of(corpus, photographs)


def test_triplets_are_refused(corpus: HandmadeCorpus, photographs: Path) -> None:
    path = corpus.folder / "manifest.json"
    path.write_text(path.read_text().replace('"kind": "samples"', '"kind": "triplets"'))
    with pytest.raises(CorpusError, match="holds triplets, not synthetic images"):
        page_of(corpus, photographs)


def test_missing_weights_are_noticed_before_shards_are_read(
    corpus: HandmadeCorpus, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the shards were read")

    monkeypatch.setattr("sia_gen.inspection.inspect.survey_category", refuse)
    missing, out = corpus.folder / "nowhere.pth", corpus.folder.parent / "page"
    with pytest.raises(ModelError, match="there is no file of backbone weights"):
        inspect_corpus(corpus.folder, photographs, None, missing, out, CPU)
