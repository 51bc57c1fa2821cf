"""Checkpoint files: every honest form is read, and nothing in a file is run."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sia_gen.diffusion.adm.importing import (
    find_state_dict,
    read_checkpoint,
    recorded_conventions,
)
from sia_gen.errors import ModelError
from tests.easydict import EasyDict, easydict_installed

STATE = {"out.0.weight": torch.arange(3.0), "out.0.bias": torch.ones(2, 2)}
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def call(content: object, **options: Any) -> Path:
        torch.save(content, tmp_path / "checkpoint.pt", **options)
        return tmp_path / "checkpoint.pt"

    return call


def equal(ours: dict[str, torch.Tensor]) -> bool:
    return list(ours) == list(STATE) and all(torch.equal(ours[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "ema", "model"])
def test_tensors_are_found_wherever_they_are(
    save: Save, key: str | None, prefix: str, zipped: bool
) -> None:
    state = OrderedDict((prefix + name, value) for name, value in STATE.items())
    content = state if key is None else {"epoch": 3, key: state, "optimizer": {"state": {}}}
    path = save(content, _use_new_zipfile_serialization=zipped)
    assert equal(find_state_dict(read_checkpoint(path)))


def test_averaged_weights_come_first(save: Save) -> None:
    raw = {name: value + 1 for name, value in STATE.items()}
    assert equal(find_state_dict(read_checkpoint(save({"state_dict": raw, "ema": STATE}))))


def test_prefix_of_only_some_tensors_is_part_of_their_names() -> None:
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert list(find_state_dict(mixed)) == ["module.a", "b"]


def test_safetensors_file_is_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    assert find_state_dict(read_checkpoint(tmp_path / "x.safetensors")).keys() == STATE.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_of_the_realnet_authors_is_read_without_their_packages(
    save: Save, zipped: bool
) -> None:
    """They save settings in a class of the package easydict, and a NumPy number, beside it."""
    unet = EasyDict(image_size=256, num_heads=4, num_head_channels=64, channel_mult=[1, 1, 2])
    arch = EasyDict(unet=unet, TrainSampler=EasyDict(beta_scheduler="linear"))
    state = {f"module.{name}": value for name, value in STATE.items()}
    loss = np.mean([0.25, 0.5])
    content = {"epoch": 9, "arch": arch, "state_dict": state, "loss": loss}
    with easydict_installed():
        path = save(content, _use_new_zipfile_serialization=zipped)
    if not zipped:
        # As NumPy 1 called it, which they had.
        path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))
    read = read_checkpoint(path)
    assert equal(find_state_dict(read))
    assert recorded_conventions(read) == {
        "image_size": 256,
        "num_head_channels": 64,
        "qkv_order": "interleaved",
        "beta_schedule": "linear",
    }


def test_number_of_heads_counts_where_their_width_is_not_set() -> None:
    content = {"arch": {"unet": {"image_size": 128, "num_heads": 4, "num_head_channels": -1}}}
    assert recorded_conventions(content) == {
        "image_size": 128,
        "num_heads": 4,
        "qkv_order": "interleaved",
        "beta_schedule": None,
    }


@pytest.mark.parametrize("arch", [None, "ADM", {}, {"unet": 3}])
def test_other_checkpoints_record_nothing(arch: object) -> None:
    assert recorded_conventions({"arch": arch}) == {}


class Payload:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.system, exec, os.mkdir])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_malicious_file_is_refused_and_not_run(
    tmp_path: Path, function: Callable[..., object], form: str
) -> None:
    victim = tmp_path / "victim"
    arguments = {
        os.system: f"mkdir {victim}",
        exec: f"import os; os.mkdir({str(victim)!r})",
        os.mkdir: str(victim),
    }
    content = {**STATE, "evil": Payload(function, arguments[function])}
    path = tmp_path / "checkpoint.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["evil"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        ModelError, match=f"is refused: loading it would run '.*{function.__name__}'"
    ):
        read_checkpoint(path)
    assert not victim.exists()
    # The payload does work where it is let.
    if form == "pickle":
        pickle.loads(path.read_bytes())
        assert victim.exists()


def whole_file(zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\n", b"no checkpoint", b"PK\x03\x04", b"{}", b"<html>"])
def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="it is damaged or no checkpoint"):
        read_checkpoint(tmp_path / name)


@given(st.booleans(), st.floats(0, 0.98))
def test_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, zipped: bool, share: float
) -> None:
    path, whole = tmp_path_factory.getbasetemp() / "truncated.pt", whole_file(zipped)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(path)


@given(st.binary(min_size=1, max_size=60))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.pt"
    path.write_bytes(b"\x80\x02" + content)
    with pytest.raises(ModelError):
        find_state_dict(read_checkpoint(path))


@pytest.mark.parametrize("name", ["nowhere.pt", "."])
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(1)], 3, torch.zeros(2), None])
def test_content_without_names_is_refused(save: Save, content: object) -> None:
    with pytest.raises(ModelError, match="holds no named tensors"):
        read_checkpoint(save(content))


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, {**STATE, "epoch": 3}, {"state_dict": {}}, {7: torch.zeros(1)}]
)
def test_content_that_is_not_tensors_alone_is_refused(content: dict[Any, Any]) -> None:
    with pytest.raises(ModelError, match="the checkpoint holds no named tensors"):
        find_state_dict(content)
