"""Checkpoints: complete or absent, and exact."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sia_gen.errors import TrainingError
from sia_gen.train.checkpoints import (
    KEPT,
    TENSORS_ALONE,
    last_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tests.hostile import CALLED, Evil


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    accelerator = Accelerator(cpu=True)
    yield accelerator
    accelerator.free_memory()


def test_newest_checkpoints_are_kept_and_linked(accelerator: Accelerator, tmp_path: Path) -> None:
    for step in (2, 10, 100):
        save_checkpoint(accelerator, tmp_path, step)
    kept = ["step-00000010", "step-00000100"]
    assert len(kept) == KEPT
    assert [path.name for path in list_checkpoints(tmp_path)] == kept
    assert last_checkpoint(tmp_path) == (tmp_path / kept[-1], 100)
    assert (tmp_path / "last").readlink() == Path(kept[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", *kept]


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
    save_checkpoint(accelerator, tmp_path / "original", 1)
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
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory")])
def test_checkpoint_that_memory_does_not_suffice_for_is_not_called_damaged(
    accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(_: str) -> None:
        raise error

    save_checkpoint(accelerator, tmp_path, 1)
    monkeypatch.setattr(accelerator, "load_state", run_out)
    with pytest.raises(type(error)):
        load_checkpoint(accelerator, tmp_path / "step-00000001")


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
    load_checkpoint(accelerator, tmp_path / "step-00000003")
    kept = ["last", "step-00000002", "step-00000003"]
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
    save_checkpoint(accelerator, tmp_path / "checkpoints", 1)
    return tmp_path / "checkpoints/step-00000001"


def test_checkpoint_is_loaded(accelerator: Accelerator, checkpoint: Path) -> None:
    (kept,) = accelerator._custom_objects
    kept.state = {"best": 1.0}
    following = torch.rand(3)
    load_checkpoint(accelerator, checkpoint)
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
        load_checkpoint(accelerator, checkpoint)


@pytest.mark.parametrize("name", PICKLES)
def test_checkpoint_that_would_run_code_is_refused(
    accelerator: Accelerator, checkpoint: Path, name: str
) -> None:
    torch.save({"best": Evil(checkpoint.parent / "canary")}, checkpoint / name)
    with pytest.raises(TrainingError, match=f"it would run '{CALLED}'"):
        load_checkpoint(accelerator, checkpoint)
    assert not (checkpoint.parent / "canary").exists()


def test_other_folders_beside_checkpoints_are_none(tmp_path: Path) -> None:
    (tmp_path / "step-of-mine").mkdir()
    assert list_checkpoints(tmp_path) == []
