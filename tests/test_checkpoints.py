"""Checkpoints: complete or absent, and exact."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from sia_gen.checkpoints import (
    KEPT,
    last_checkpoint,
    list_checkpoints,
    remove_checkpoints,
    save_checkpoint,
)


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
        patch.setattr("sia_gen.checkpoints.publish_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(accelerator, tmp_path, 2)
    assert last_checkpoint(tmp_path) == (tmp_path / "step-00000001", 1)
    save_checkpoint(accelerator, tmp_path, 2)
    assert last_checkpoint(tmp_path) == (tmp_path / "step-00000002", 2)


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


def test_forgotten_checkpoints_are_gone(accelerator: Accelerator, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    remove_checkpoints(folder)
    save_checkpoint(accelerator, folder, 1)
    remove_checkpoints(folder)
    assert not folder.exists()
