"""What the tests of RealNet share: a corpus, a fit, and what it is fitted to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.anomalies.paste import LocalAnomalies
from sia_gen.anomalies.sources import Parts, open_sources
from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_images
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.preparation import fit_data, load_normal
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import HandmadeCorpus

CPU = Runtime("fp32", "cpu")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return HandmadeCorpus(folder / "corpus", categories=("disc", "plate")).folder


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, photographs: Path, small: Recipe
) -> Path:
    """A fit that nothing interrupted, to read only."""
    out = tmp_path_factory.mktemp("fitted") / "whole"
    fit_realnet(small, ["disc"], photographs, corpus, out, CPU)
    return out


def data_of(recipe: Recipe, photographs: Path, corpus: Path) -> Parts[LocalAnomalies]:
    """What a model of category `disc` is fitted to."""
    normal = load_normal(recipe, {"disc": list_images(recipe, photographs, "disc")})
    return fit_data(recipe, normal, [open_sources(recipe, "disc", corpus)])
