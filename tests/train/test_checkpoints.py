"""Checkpoints: complete or absent, and exact."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.diffusion.training import train_diffusion
from sia_gen.errors import OutputError, TrainingError
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.io.files import fingerprint, write_json
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from sia_gen.train.checkpoints import (
    INPUTS,
    KEPT,
    TENSORS_ALONE,
    begin_checkpoints,
    check_inputs,
    last_checkpoint,
    list_checkpoints,
    load_last,
    save_checkpoint,
)
from tests.conftest import photograph
from tests.corpus.conftest import HandmadeCorpus
from tests.hostile import CALLED, Evil


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    accelerator = Accelerator(cpu=True)
    yield accelerator
    accelerator.free_memory()


def begun(folder: Path) -> Path:
    """A folder in which a training has begun."""
    write_json(folder / INPUTS, {})
    return folder


@pytest.fixture(autouse=True)
def training(tmp_path: Path) -> None:
    begun(tmp_path)


def test_a_folder_that_is_removed_under_way_gets_no_checkpoint(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(OutputError, match="was removed"):
        save_checkpoint(accelerator, tmp_path, 1)
    assert last_checkpoint(tmp_path) is None


def test_newest_checkpoints_are_kept_and_linked(accelerator: Accelerator, tmp_path: Path) -> None:
    for step in (2, 10, 100):
        save_checkpoint(accelerator, tmp_path, step)
    kept = ["step-00000010", "step-00000100"]
    assert len(kept) == KEPT
    assert [path.name for path in list_checkpoints(tmp_path)] == kept
    assert last_checkpoint(tmp_path) == (tmp_path / kept[-1], 100)
    assert (tmp_path / "last").readlink() == Path(kept[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [INPUTS, "last", *kept]


def test_as_many_are_kept_as_are_asked_for(accelerator: Accelerator, tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(accelerator, tmp_path, step, kept=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000003",
        "step-00000004",
        "step-00000005",
    ]


def test_folder_copied_with_its_link_followed_goes_on(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    save_checkpoint(accelerator, begun(tmp_path / "original"), 1)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    save_checkpoint(accelerator, tmp_path / "copy", 2)
    assert (tmp_path / "copy/last").readlink() == Path("step-00000002")


def test_where_windows_allows_no_links_there_is_none(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = OSError(errno.EINVAL, "A required privilege is not held by the client")
        error.winerror = 1314
        raise error

    monkeypatch.setattr(Path, "symlink_to", refuse)
    save_checkpoint(accelerator, tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {INPUTS, "step-00000001"}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory")])
def test_checkpoint_that_memory_does_not_suffice_for_is_not_called_damaged(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(_: str) -> None:
        raise error

    save_checkpoint(accelerator, tmp_path, 1)
    monkeypatch.setattr(accelerator, "load_state", run_out)
    with pytest.raises(type(error)):
        load_last(accelerator, tmp_path)


def test_no_checkpoint_without_a_folder(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    assert last_checkpoint(tmp_path) is None


def test_interrupted_checkpoint_does_not_count(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(accelerator, tmp_path, 1)

    def interrupted(temporary: Path, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sia_gen.train.checkpoints.publish_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(accelerator, tmp_path, 2)
    assert last_checkpoint(tmp_path) == (tmp_path / "step-00000001", 1)
    save_checkpoint(accelerator, tmp_path, 2)
    assert last_checkpoint(tmp_path) == (tmp_path / "step-00000002", 2)


def test_what_was_killed_while_it_removed_checkpoints_leaves_none_in_part(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator.prepare(torch.nn.Linear(2, 2))
    save_checkpoint(accelerator, tmp_path, 1)
    save_checkpoint(accelerator, tmp_path, 2)
    whole = sorted(path.name for path in (tmp_path / "step-00000001").iterdir())

    def killed(folder: Path, **_: object) -> None:
        if folder.exists():
            (folder / whole[0]).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(accelerator, tmp_path, 3)
    for path in list_checkpoints(tmp_path):
        assert sorted(file.name for file in path.iterdir()) == whole
    (tmp_path / "last").rename(tmp_path / ".last.tmp")
    load_last(accelerator, tmp_path)
    kept = [INPUTS, "last", "step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    assert (tmp_path / "last").readlink() == Path(kept[-1])


def test_checkpoint_can_be_saved_again(accelerator: Accelerator, tmp_path: Path) -> None:
    save_checkpoint(accelerator, tmp_path, 1)
    save_checkpoint(accelerator, tmp_path, 1)
    assert last_checkpoint(tmp_path) == (tmp_path / "step-00000001", 1)


def test_training_goes_on_with_the_same_weights_and_the_same_randomness(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    model = accelerator.prepare(torch.nn.Linear(2, 2))
    saved = model.weight.detach().clone()
    save_checkpoint(accelerator, tmp_path, 1)
    drawn = torch.rand(3)
    with torch.no_grad():
        model.weight.zero_()

    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    accelerator.load_state(str(checkpoint[0]))
    assert torch.equal(model.weight, saved)
    assert torch.equal(torch.rand(3), drawn)


class Kept:
    """Something that checkpoints keep beside the networks."""

    def __init__(self) -> None:
        self.state: dict[str, float] = {"best": 0.5}

    def state_dict(self) -> dict[str, float]:
        return self.state

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.state = state


@pytest.fixture
def checkpoint(accelerator: Accelerator, tmp_path: Path) -> Path:
    """A checkpoint of all kinds of files there are."""
    model = torch.nn.Linear(2, 1)
    accelerator.prepare(model, torch.optim.Adam(model.parameters()))
    accelerator.register_for_checkpointing(Kept())
    save_checkpoint(accelerator, begun(tmp_path / "checkpoints"), 1)
    return tmp_path / "checkpoints/step-00000001"


def test_checkpoint_is_loaded(accelerator: Accelerator, checkpoint: Path) -> None:
    (kept,) = accelerator._custom_objects
    kept.state = {"best": 1.0}
    following = torch.rand(3)
    load_last(accelerator, checkpoint.parent)
    assert kept.state == {"best": 0.5}
    assert torch.equal(torch.rand(3), following)
    assert TENSORS_ALONE not in os.environ


PICKLES = ["optimizer.bin", "custom_checkpoint_0.pkl", "random_states_0.pkl"]


@pytest.mark.parametrize("name", [*PICKLES, "model.safetensors"])
@pytest.mark.parametrize("keep", [0, 20, 80])
def test_damaged_checkpoint_is_refused(
    accelerator: Accelerator, checkpoint: Path, name: str, keep: int
) -> None:
    file = checkpoint / name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"cannot go on from the checkpoint .*step-00000001 \("):
        load_last(accelerator, checkpoint.parent)


@pytest.mark.parametrize("name", PICKLES)
def test_checkpoint_that_would_run_code_is_refused(
    accelerator: Accelerator, checkpoint: Path, name: str
) -> None:
    torch.save({"best": Evil(checkpoint.parent / "canary")}, checkpoint / name)
    with pytest.raises(TrainingError, match=f"it would run '{CALLED}'"):
        load_last(accelerator, checkpoint.parent)
    assert not (checkpoint.parent / "canary").exists()


def test_other_folders_beside_checkpoints_are_none(tmp_path: Path) -> None:
    (tmp_path / "step-of-mine").mkdir()
    assert list_checkpoints(tmp_path) == []


CPU = Runtime("fp32", "cpu")
NOTHING = Learnt(fit={}, validation={})
BEGUN = {"photographs": {"place": "here", "sha256": "1"}, "corpus": {"disc": {"sha256": "2"}}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A folder with a checkpoint of a training that began with `BEGUN`."""
    begin_checkpoints(tmp_path, BEGUN, lambda: NOTHING, resume=True)
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
    other = {"photographs": {"sha256": "other"}}
    begin_checkpoints(checkpoints, other, lambda: NOTHING, resume=False)
    assert {path.name for path in checkpoints.iterdir()} == {INPUTS, LEARNT}


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_damaged_description_is_refused(checkpoints: Path, content: str) -> None:
    (checkpoints / INPUTS).write_text(content)
    with pytest.raises(OutputError, match=r"inputs\.json is missing or damaged"):
        check_inputs(checkpoints, BEGUN)


def test_checkpoint_of_unknown_inputs_is_refused(checkpoints: Path) -> None:
    (checkpoints / INPUTS).unlink()
    with pytest.raises(OutputError, match=r"inputs\.json is missing or damaged"):
        begin_checkpoints(checkpoints, BEGUN, lambda: NOTHING, resume=True)


def test_inputs_that_another_process_began_with_stay(checkpoints: Path) -> None:
    before, other = (checkpoints / INPUTS).read_bytes(), {"photographs": {"sha256": "other"}}
    with pytest.raises(OutputError, match="different inputs"):
        begin_checkpoints(checkpoints, other, lambda: NOTHING, resume=True)
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


def learnt_by(train: Train, photographs: Path, out: Path) -> bytes:
    """The record of a training after another run of it."""
    train(photographs, out)
    (record,) = out.rglob(f"checkpoints/**/{LEARNT}")
    return record.read_bytes()


@pytest.mark.parametrize("train", ["diffusion", "classifier", "realnet"], indirect=True)
def test_training_goes_on_with_the_photographs_it_began_with(
    train: Train, photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine, out = shutil.copytree(photographs, tmp_path / "mine"), tmp_path / "out"
    record = learnt_by(train, mine, out)
    assert "added since" not in capfd.readouterr().err
    photograph(99).save(mine / "disc/train/good/005b.png")
    assert learnt_by(train, mine, out) == record
    assert "photographs that it began with; those added since are left out." in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize("train", ["diffusion", "classifier", "realnet"], indirect=True)
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_photographs_that_were_lost_are_noticed(
    train: Train, photographs: Path, tmp_path: Path, change: str
) -> None:
    mine = shutil.copytree(photographs, tmp_path / "mine")
    train(mine, tmp_path / "out")
    path = mine / "disc/train/good/003.png"
    path.unlink()
    if change == "replaced":
        photograph(99).resize((64, 64)).save(path)
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
