"""The foreground rule of a recipe reaches what RealNet is fitted to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.corpus.manifest import CorpusHeader, write_manifest, write_record
from sia_gen.corpus.plan import plan_corpus
from sia_gen.corpus.shards import SampleMetadata, write_shard
from sia_gen.errors import OutputError
from sia_gen.realnet.data import FitData, fit_data, load_normal
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime

RULE = {"method": "otsu", "polarity": "bright", "close": 20, "open": 20}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """One shard with one white image of category `disc`."""
    folder = tmp_path / "corpus"
    (shard,) = plan_corpus("parts", ["disc"], 1, 1)
    metadata = SampleMetadata(
        key="parts_disc_00000000",
        dataset="parts",
        category="disc",
        index=0,
        strength=0.1,
        seed=0,
        steps=2,
        sampler="PerturbedDDPMScheduler",
        guidance_scale=0.0,
        model="0" * 64,
        width=8,
        height=8,
        sia_gen="0.1.0",
    )
    header = CorpusHeader(
        sia_gen="0.1.0",
        recipe="1" * 64,
        dataset="parts",
        seed=0,
        images=1,
        strength="0.1",
        steps=2,
        sampler="PerturbedDDPMScheduler",
        guidance_scale=0.0,
        batch_size=1,
        precision="no",
        shard_size=1,
        format="png",
        mode="L",
        image_size=8,
    )
    write_shard(folder / shard.path, [(metadata, Image.new("L", (8, 8), 255))], "png")
    write_record(folder, shard, "0" * 64)
    write_manifest(folder, asdict(header), [shard])
    return folder


def with_rule(recipe: Recipe, category: str = "disc") -> Recipe:
    return Recipe.parse(recipe.model_dump() | {"foreground": {category: RULE}}, where="test")


def data_of(recipe: Recipe, photographs: Path, corpus: Path) -> FitData:
    return fit_data(recipe, load_normal(recipe, "disc", photographs), "disc", corpus)


def test_anomalies_lie_on_the_disc(recipe: Recipe, photographs: Path, corpus: Path) -> None:
    data = data_of(with_rule(recipe), photographs, corpus)
    y, x = np.mgrid[:64, :64]
    # The disc of the photographs has radius 10 of 32 pixels; resizing blurs its edge.
    outside = (x - 32.5) ** 2 + (y - 32.5) ** 2 > 23**2
    for anomalies in (data.training, data.validation):
        assert anomalies.foreground is not None
        assert anomalies.foreground.shape == (len(anomalies.normal), 1, 64, 64)
        assert 0.25 < anomalies.foreground.mean() < 0.36
        for index in range(len(anomalies.normal)):
            for seed in range(4):
                _, _, mask = anomalies.sample(index, np.random.default_rng(seed))
                assert not mask[0][outside].any()


def test_without_a_rule_anomalies_lie_everywhere(
    recipe: Recipe, photographs: Path, corpus: Path
) -> None:
    for chosen in (recipe, with_rule(recipe, "plate")):
        data = data_of(chosen, photographs, corpus)
        assert data.training.foreground is None
        assert data.validation.foreground is None


def test_folder_fitted_with_another_rule_is_left_alone(
    recipe: Recipe, photographs: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "realnet"
    out.mkdir()
    (out / "recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(OutputError, match=r"another recipe \(foreground\.disc: None, now"):
        fit_realnet(with_rule(recipe), ["disc"], photographs, corpus, out, Runtime("fp32", "cpu"))
