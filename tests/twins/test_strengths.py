"""Calibration of twins: what it measures are the twins that a corpus of that strength has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.config.strength import Strength
from sia_gen.inspection import calibrate as calibrating
from sia_gen.inspection.calibrate import Case, calibrate
from sia_gen.inspection.strength_curve import SAMPLES
from sia_gen.sdas.loading import load_pipeline
from sia_gen.twins import masks
from sia_gen.twins.strengths import twin_sampler
from tests.corpus.conftest import RUNTIME
from tests.twins.conftest import read

if TYPE_CHECKING:
    from tests.twins.conftest import MakeTwins

NATURAL = {"source": "image", "region": "natural"}


def test_samples_are_the_twins_of_a_corpus_of_that_strength(
    make_twins: MakeTwins, models: Path, photographs: Path
) -> None:
    size = {"images": SAMPLES, "shard_size": SAMPLES, "batch_size": SAMPLES}
    settings = size | {"steps": 6, "strength": 2.0, "perturbation": ["blobs"]}
    changes = {f"synthesis.{name}": value for name, value in settings.items()}
    corpus, maker = make_twins("corpus", NATURAL, changes, categories=["disc"])
    made = list(read(corpus).values())

    pipeline = load_pipeline(models / "disc", maker.recipe)
    place = DatasetCategory(maker.recipe, "disc")
    # Edits would change photographs whatever the strength is.
    edited = maker.recipe.override({"synthesis.twins.edit": ["swap"]})
    sampler = twin_sampler(edited, ["disc"], photographs)
    assert sampler is not None
    sample = sampler(pipeline, place, "blobs")
    found, weak = sample(2.0), sample(0.5)
    assert found.normal is not None
    assert found.regions is not None
    assert len(found.images) == SAMPLES
    for number, twins in enumerate(made):
        assert np.array_equal(twins["image.png"], found.images[number])
        assert np.array_equal(twins["normal.png"], found.normal[number])
    assert any(found.masks or [])
    assert found.masks == [bool(twins["mask.png"].any()) for twins in made]
    # Only the strength differs from one to the next.
    assert weak.normal == found.normal
    assert np.array_equal(weak.regions, found.regions)
    assert weak.images != found.images


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured; all of it is found to have a range, as no untrained model has."""
    found: list[str] = []

    def useful_range(_: object, what: str) -> Strength:
        found.append(what)
        return Strength(0.1, 0.2)

    monkeypatch.setattr(calibrating, "useful_range", useful_range)
    monkeypatch.setattr(masks, "IMAGES", 4)
    return found


def test_twins_are_measured_anew_with_other_settings(
    recipe: Recipe, models: Path, photographs: Path, tmp_path: Path, measured: list[str]
) -> None:
    for region in ("natural", "natural", "box"):
        changed = recipe.override({"synthesis.twins": NATURAL | {"region": region}})
        twins = twin_sampler(changed, ["disc"], photographs)
        out = tmp_path / "out"
        found = calibrate(changed, ["disc"], photographs, models, out, RUNTIME, twins=twins)
        assert found == {Case("disc", "white"): Strength(0.1, 0.2)}
    assert len(measured) == 2
    curve = json.loads((out / "calibration.json").read_text())["disc"]["white"]
    assert curve["twins"]["region"] == "box"
    assert len(curve["masked"]) == len(curve["strengths"])
    with Image.open(out / "samples/disc-white.png") as row:
        assert row.size == (16 * len(curve["strengths"]), 16)
    assert "Below 0.1 more than one mask in ten is empty" in (out / "index.html").read_text()
