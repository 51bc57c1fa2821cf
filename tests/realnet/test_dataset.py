"""The anomalies that RealNet is fitted to follow the sources and rules of each category."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.anomalies.sources import open_sources
from sia_gen.config.recipe import Recipe
from sia_gen.errors import OutputError
from sia_gen.images.listing import list_images
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.preparation import fit_data, load_normal
from tests.corpus.conftest import HandmadeCorpus
from tests.realnet.conftest import CPU, data_of

RULE = {"method": "otsu", "polarity": "bright", "close": 20, "open": 20}


@pytest.fixture
def white_corpus(tmp_path: Path) -> Path:
    """White images of category `disc`."""
    made = HandmadeCorpus(tmp_path / "corpus")
    for shard in made.plan:
        white = [
            (metadata, Image.new("L", image.size, 255)) for metadata, image in made.samples(shard)
        ]
        made.write(shard, white)
    return made.folder


def with_rule(recipe: Recipe, category: str = "disc") -> Recipe:
    return Recipe.parse(recipe.model_dump() | {"foreground": {category: RULE}}, where="test")


def test_anomalies_lie_on_the_disc(recipe: Recipe, photographs: Path, white_corpus: Path) -> None:
    data = data_of(with_rule(recipe), photographs, white_corpus)
    y, x = np.mgrid[:64, :64]
    # The disc of the photographs has radius 10 of 32 pixels; resizing blurs its edge.
    outside = (x - 32.5) ** 2 + (y - 32.5) ** 2 > 23**2
    for anomalies in data:
        assert anomalies.foreground is not None
        masks = np.stack([anomalies.foreground[n] for n in range(len(anomalies.normal))])
        assert masks.shape == (len(anomalies.normal), 1, 64, 64)
        assert 0.25 < masks.mean() < 0.36
        for index in range(len(anomalies.normal)):
            for seed in range(4):
                _, _, mask = anomalies.sample(index, np.random.default_rng(seed), index)
                assert not mask[0][outside].any()


def test_without_a_rule_anomalies_lie_everywhere(
    recipe: Recipe, photographs: Path, white_corpus: Path
) -> None:
    for chosen in (recipe, with_rule(recipe, "plate")):
        data = data_of(chosen, photographs, white_corpus)
        assert data.fit.foreground is None
        assert data.validation.foreground is None


def test_folder_fitted_with_another_rule_is_left_alone(
    recipe: Recipe, photographs: Path, white_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "realnet"
    out.mkdir()
    (out / "recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(OutputError, match=r"another recipe \(foreground\.disc: None, now"):
        fit_realnet(with_rule(recipe), ["disc"], photographs, white_corpus, out, CPU)


def test_joint_data_keeps_source_and_rule_of_each_category(
    recipe: Recipe, photographs: Path, corpus: Path
) -> None:
    rule = {"method": "otsu", "polarity": "bright"}
    changed = Recipe.parse(recipe.model_dump() | {"foreground": {"disc": rule}}, where="test")
    listed = {name: list_images(changed, photographs, name) for name in changed.categories}
    normal = load_normal(changed, listed)
    sources = [open_sources(changed, category, corpus) for category in changed.categories]
    training = fit_data(changed, normal, sources).fit
    first = len(normal["disc"].fit)
    joined = [training.normal[index] for index in range(len(training.normal))]
    assert np.array_equal(joined, np.concatenate([parts.fit for parts in normal.values()]))
    masks = [training.foreground[index] for index in range(len(training.normal))]
    assert np.mean(masks[:first]) < 0.5
    assert np.all(masks[first:])
    drawn = [
        {training.sources[training.groups[index]].reader[0][0]["category"]}
        for index in (0, first - 1, first, len(training.normal) - 1)
    ]
    assert drawn == [{"disc"}, {"disc"}, {"plate"}, {"plate"}]
