"""A training is resumed with what it was begun with, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.diffusion.training import train_diffusion
from sia_gen.errors import OutputError
from sia_gen.io.files import fingerprint
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from sia_gen.train.checkpoints import INPUTS, begin_checkpoints, check_inputs
from tests.conftest import photograph
from tests.corpus.conftest import HandmadeCorpus

CPU = Runtime("fp32", "cpu")
BEGUN = {"photographs": {"place": "here", "sha256": "1"}, "corpus": {"disc": {"sha256": "2"}}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A folder with a checkpoint of a training that began with `BEGUN`."""
    begin_checkpoints(tmp_path, BEGUN, resume=True)
    (tmp_path / "step-00000002").mkdir()
    return tmp_path


def test_same_inputs_in_another_place_are_the_same(checkpoints: Path) -> None:
    check_inputs(checkpoints, BEGUN | {"photographs": {"place": "there", "sha256": "1"}})


@pytest.mark.parametrize("name", ["photographs", "corpus"])
def test_other_inputs_are_refused(checkpoints: Path, name: str) -> None:
    with pytest.raises(OutputError, match=rf"begun with different inputs \({name}\).*--no-resume"):
        check_inputs(checkpoints, BEGUN | {name: {"disc": {"sha256": "3"}}})


def test_without_a_checkpoint_anything_may_begin(checkpoints: Path) -> None:
    (checkpoints / "step-00000002").rmdir()
    check_inputs(checkpoints, {"photographs": {"sha256": "other"}})


def test_starting_again_forgets(checkpoints: Path) -> None:
    begin_checkpoints(checkpoints, {"photographs": {"sha256": "other"}}, resume=False)
    assert [path.name for path in checkpoints.iterdir()] == [INPUTS]


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_damaged_description_is_refused(checkpoints: Path, content: str) -> None:
    (checkpoints / INPUTS).write_text(content)
    with pytest.raises(OutputError, match=r"inputs\.json is missing or damaged"):
        check_inputs(checkpoints, BEGUN)


def test_checkpoint_of_unknown_inputs_is_refused(checkpoints: Path) -> None:
    (checkpoints / INPUTS).unlink()
    with pytest.raises(OutputError, match=r"inputs\.json is missing or damaged"):
        begin_checkpoints(checkpoints, BEGUN, resume=True)


def test_inputs_that_another_process_began_with_stay(checkpoints: Path) -> None:
    before = (checkpoints / INPUTS).read_bytes()
    with pytest.raises(OutputError, match="different inputs"):
        begin_checkpoints(checkpoints, {"photographs": {"sha256": "other"}}, resume=True)
    assert (checkpoints / INPUTS).read_bytes() == before


def test_fingerprint_follows_names_sizes_and_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"1")
    first = fingerprint(files)
    assert first["files"] == 2
    assert fingerprint(files) == first
    assert fingerprint(files[::-1]) != first
    files[0].write_bytes(b"12")
    assert fingerprint(files) != first


Train = Callable[[Path, Path], None]


@pytest.fixture
def train(request: pytest.FixtureRequest, recipe: Recipe, tmp_path: Path) -> Train:
    """One of the three trainings, of one step: `train(photographs, out)`."""
    steps = {f"{part}.max_steps": 1 for part in ("diffusion", "classifier", "realnet")}
    short = recipe.override(steps)

    def run(photographs: Path, out: Path) -> None:
        if request.param == "diffusion":
            train_diffusion(short, ["disc"], photographs, out, CPU)
        elif request.param == "classifier":
            train_classifier(short, photographs, out, CPU)
        else:
            corpus = HandmadeCorpus(tmp_path / "corpus").folder
            fit_realnet(short, ["disc"], photographs, corpus, out, CPU)

    return run


@pytest.mark.parametrize("train", ["diffusion", "classifier", "realnet"], indirect=True)
def test_photographs_that_were_added_are_noticed(
    train: Train, photographs: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(photographs, tmp_path / "mine")
    train(mine, tmp_path / "out")
    photograph(99).save(mine / "disc/train/good/099.png")
    with pytest.raises(OutputError, match=r"different inputs \(photographs\)"):
        train(mine, tmp_path / "out")


def test_classifier_of_other_flips_is_another(
    recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    short = recipe.override({"classifier.max_steps": 1})
    train_classifier(short, photographs, tmp_path / "out", CPU)
    turned = short.override({"diffusion.vertical_flip": True})
    with pytest.raises(OutputError, match=r"different inputs \(flips\)"):
        train_classifier(turned, photographs, tmp_path / "out", CPU)


def test_another_corpus_is_noticed_before_anything_is_written(
    recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    corpus = HandmadeCorpus(tmp_path / "corpus")
    short = recipe.override({"realnet.max_steps": 1})
    out = tmp_path / "out"
    fit_realnet(short, ["disc"], photographs, corpus.folder, out, CPU)
    moved = corpus.folder.rename(tmp_path / "moved")
    # Elsewhere, but the same.
    fit_realnet(short, ["disc"], photographs, moved, out, CPU)
    other = HandmadeCorpus(tmp_path / "other", image_format="webp")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=r"different inputs \(corpus\)"):
        fit_realnet(short, ["disc"], photographs, other.folder, out, CPU)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
