"""Images that a model learnt from are no test, whatever was added or removed since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ImageError
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.evaluation.results import METRICS
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from tests.conftest import photograph
from tests.corpus.conftest import HandmadeCorpus

CPU = Runtime("fp32", "cpu")
Told = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> tuple[Recipe, Path]:
    """A fit of own photographs without a folder for the test; to read only."""
    place = tmp_path_factory.mktemp("fitted")
    for folder, numbers in {"good": range(20), "test/scratch": range(100, 104)}.items():
        (place / "photos" / folder).mkdir(parents=True)
        for number in numbers:
            image = photograph(number, defect=number >= 100)
            image.save(place / "photos" / folder / f"{number:03d}.png")
    images = {"layout": "folder", "normal": "good/*", "test_anomalous": "test/*/*"}
    changes = {"categories": ["disc"], "data.images": images, "realnet.max_steps": 1}
    recipe = small.override(changes)
    corpus = HandmadeCorpus(place / "corpus").folder
    fit_realnet(recipe, ["disc"], place / "photos", corpus, place / "realnet", CPU)
    return recipe, place


Score = Callable[[], dict[str, Any]]


@pytest.fixture
def place(fitted: tuple[Recipe, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted[1], tmp_path / "place"))


@pytest.fixture
def score(fitted: tuple[Recipe, Path], place: Path) -> Score:
    def call() -> dict[str, Any]:
        out = place / "evaluation"
        return evaluate(fitted[0], ["disc"], place / "photos", place / "realnet", out, CPU)

    return call


def test_model_keeps_what_it_learnt(place: Path) -> None:
    learnt = Learnt.read(place / "realnet/disc")
    assert learnt is not None
    assert (len(learnt.fit), len(learnt.validation)) == (10, 4)
    assert learnt == Learnt.read(place / "realnet/checkpoints/disc")


def test_nothing_is_left_out_of_the_split_that_was_learnt(score: Score, capfd: Told) -> None:
    found = score()
    assert found["learnt"] == {"disc": 0}
    assert found["categories"]["disc"]["normal_images"] == 6
    assert "left out" not in capfd.readouterr().err


@pytest.mark.parametrize("change", ["removed", "added"])
def test_images_that_were_learnt_are_left_out_and_counted(
    score: Score, place: Path, change: str, capfd: Told
) -> None:
    first = place / "photos/good/000.png"
    if change == "removed":
        first.unlink()
    else:
        photograph(99).save(first.with_name("000b.png"))
    found = score()
    count = found["learnt"]["disc"]
    line = f"disc: left out {count} of 10 test images, because the model learnt from them."
    if change == "added":
        line = line.replace("10", "11")
    assert line in capfd.readouterr().err
    total = 6 if change == "removed" else 7
    assert count > 0
    assert found["categories"]["disc"]["normal_images"] == total - count
    assert found["categories"]["disc"]["anomalous_images"] == 4
    assert json.loads((place / "evaluation" / METRICS).read_text())["learnt"] == {"disc": count}
    learnt = Learnt.read(place / "realnet/disc")
    assert learnt is not None
    table = (place / "evaluation/disc/scores.csv").read_text()
    assert not any(name in table for name in learnt.fit | learnt.validation)


def test_copy_of_a_learnt_image_is_an_error_that_names_both(score: Score, place: Path) -> None:
    learnt = Learnt.read(place / "realnet/disc")
    assert learnt is not None
    original = place / "photos" / next(iter(learnt.fit))
    copy = shutil.copy(original, place / "photos/test/scratch/copy.png")
    with pytest.raises(ImageError) as caught:
        score()
    assert str(copy) in caught.value.problem
    assert str(original) in caught.value.problem
    assert not (place / "evaluation").exists()
    # A moved image was learnt, but there is no second one.
    original.unlink()
    assert score()["learnt"]["disc"] >= 1


def test_test_of_learnt_images_alone_is_refused(score: Score, place: Path) -> None:
    learnt = Learnt.read(place / "realnet/disc")
    assert learnt is not None
    for path in (place / "photos/good").iterdir():
        if f"good/{path.name}" not in learnt.fit | learnt.validation:
            path.unlink()
    with pytest.raises(ImageError, match="the model learnt from all normal test images of 'disc'"):
        score()
    assert not (place / "evaluation").exists()


def test_model_that_does_not_say_what_it_learnt_is_told_of(
    score: Score, place: Path, capfd: Told
) -> None:
    (place / "realnet/disc" / LEARNT).unlink()
    assert score()["learnt"] == {"disc": None}
    assert "warning: disc: the model does not say from which images" in capfd.readouterr().err


def test_summary_of_an_earlier_version_is_joined(score: Score, place: Path) -> None:
    found = score()
    path = place / "evaluation" / METRICS
    path.write_text(json.dumps({name: one for name, one in found.items() if name != "learnt"}))
    assert score() == found
