"""Corpora of compiled networks: the same samples, and the same bytes however they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sia_gen.collection import choose_categories
from sia_gen.compilation import is_compiled
from sia_gen.corpus import sampling
from sia_gen.corpus.estimate import estimate
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.manifest import MANIFEST
from sia_gen.corpus.remake import remake
from sia_gen.corpus.sampling import LARGE, compiles
from sia_gen.errors import OptionError, OutputError
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from tests.corpus.conftest import RUNTIME, read_shards
from tests.corpus.test_remake import members

if TYPE_CHECKING:
    from tests.corpus.conftest import Make

COMPILED = Runtime("fp32", "cpu", compiled=True)


def test_corpus_of_compiled_networks_has_the_same_samples(
    make: Make, models: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, disc = tmp_path / "compiled", choose_categories(recipe, ["disc"])
    sizes = []

    def watched(pipeline, *arguments, **options):
        prepare(pipeline, *arguments, **options)
        pipeline.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        assert is_compiled(pipeline.unet) == options["compiled"]

    prepare = sampling.prepare_pipeline
    monkeypatch.setattr("sia_gen.corpus.generate.prepare_pipeline", watched)
    synthesize(recipe, disc, models, corpus, COMPILED)
    # Shards of 3 and 2 samples, in batches of 2: the second batch is filled up.
    assert set(sizes) == {recipe.synthesis.batch_size}
    assert json.loads((corpus / MANIFEST).read_text())["compiled"] is True
    plain = make(categories=["disc"])
    pairs = zip(
        read_shards(sorted(corpus.glob("data/**/*.tar"))),
        read_shards(sorted(plain.glob("data/**/*.tar"))),
        strict=True,
    )
    for (metadata, image), (expected, picture) in pairs:
        assert metadata == expected
        difference = np.asarray(image, np.int16) - np.asarray(picture, np.int16)
        assert abs(difference).max() <= 1

    made = members(corpus)
    for path in remake(recipe, "parts_disc_00000002", models, tmp_path / "again", COMPILED):
        assert path.read_bytes() == made[path.name]
    assert "2 at a time" in estimate(recipe, disc, models, COMPILED)
    with pytest.raises(OutputError, match=r"another compiled \(True, not False\)"):
        synthesize(recipe, disc, models, corpus, RUNTIME)


def test_older_manifests_tell_nothing_and_mean_not_compiled(
    make: Make, models: Path, recipe: Recipe
) -> None:
    corpus = make(categories=["disc"])
    manifest = json.loads((corpus / MANIFEST).read_text())
    del manifest["compiled"]
    (corpus / MANIFEST).write_text(json.dumps(manifest))
    before = members(corpus)
    assert members(make(categories=["disc"])) == before
    with pytest.raises(OutputError, match=r"another compiled \(False, not True\)"):
        synthesize(recipe, choose_categories(recipe, ["disc"]), models, corpus, COMPILED)


def test_all_parts_of_a_corpus_decide_alike(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        Runtime, "compiles", lambda self, device, *, large: asked.append(large) or large
    )
    for images in (LARGE // recipe.synthesis.steps - 1, LARGE // recipe.synthesis.steps):
        changed = recipe.override({"synthesis.images": images})
        assert compiles(Runtime(), changed, "samples", "cuda") == asked[-1]
    assert asked == [False, True]


def test_twins_are_not_compiled(recipe: Recipe) -> None:
    assert compiles(Runtime(), recipe, "twins", "cuda") is False
    with pytest.raises(OptionError, match="--compile is for single samples"):
        compiles(COMPILED, recipe, "twins", "cuda")
