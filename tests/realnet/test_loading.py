"""Opening the folders of fitted models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sia_gen.errors import ModelError
from sia_gen.realnet.inference import find_realnet, load_realnet
from tests.small_networks import SELECTED_ON, save_detector

REPORT = {"threshold": 0.25, "selected_on": SELECTED_ON, "model_version": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_detector(path, threshold=REPORT["threshold"])
    return path


def test_folder_gives_the_model_with_its_threshold_and_how_it_was_chosen(folder: Path) -> None:
    model, threshold, selected_on = load_realnet(folder)
    assert (threshold, selected_on) == (0.25, SELECTED_ON)
    assert not model.training
    for name, value in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(model.state_dict()[name], value, equal_nan=True)


@pytest.mark.parametrize("channels_last", [True, False])
def test_layout_in_memory_is_a_choice(folder: Path, channels_last: bool) -> None:
    model = load_realnet(folder, channels_last=channels_last).model
    weights = [one for one in model.parameters() if one.ndim == 4 and min(one.shape[1:3]) > 1]
    assert weights
    for weight in weights:
        by_channels = weight.is_contiguous(memory_format=torch.channels_last)
        assert by_channels == channels_last


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "fit.json"])
def test_folder_without_a_file_is_no_model(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=rf"there is no RealNet in .*model \(no {file}\)"):
        load_realnet(folder)


@pytest.mark.parametrize("inside", ["gear", "realnet/gear"])
def test_folder_of_a_run_leads_to_its_model(folder: Path, tmp_path: Path, inside: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run / inside)
    with pytest.raises(ModelError, match=rf"there is no RealNet in .* Give {run / inside}\."):
        load_realnet(run)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "fit.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_file_is_one_line(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match="cannot load the RealNet in"):
        load_realnet(folder)


def test_weights_of_another_shape_are_one_line(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.startswith("rrs.decoder"))
    tensors[name] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match="cannot load the RealNet in"):
        load_realnet(folder)


@pytest.mark.parametrize(
    ("file", "field", "said"),
    [
        ("fit.json", '"other": NaN', "expected value at line 1"),
        ("fit.json", '"other": 1e999', "Out of range float values"),
    ],
)
def test_number_that_is_not_finite_is_one_line(
    folder: Path, file: str, field: str, said: str
) -> None:
    content = (folder / file).read_text()
    (folder / file).write_text(content.replace("{", "{" + field + ",", 1))
    with pytest.raises(ModelError, match=rf"cannot load the RealNet in .*{said}"):
        load_realnet(folder)


@pytest.mark.parametrize(
    "structure",
    [
        {},
        {"blocks": [], "block_strides": []},
        {"blocks": [[0], [9]], "block_strides": [8, 16]},
        {"blocks": [[0], [1]], "block_strides": [8]},
        {"blocks": [[0], [1]], "block_strides": [8, 16], "layers_per_block": 10**9},
        {"blocks": [[0], [1]], "block_strides": [8, 16], "evil": "evil.Evil"},
    ],
)
def test_impossible_structure_is_one_line(folder: Path, structure: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": structure}))
    with pytest.raises(ModelError, match="cannot load the RealNet in"):
        load_realnet(folder)


def test_folder_of_another_version_is_refused(folder: Path) -> None:
    # Another version may have other fields.
    (folder / "fit.json").write_text(json.dumps({"model_version": 1, "cut": 0.5}))
    with pytest.raises(ModelError, match=r"has version 1; .* reads version 2\. Update sia-gen"):
        load_realnet(folder)


def test_own_model_of_a_category_comes_before_that_of_all(tmp_path: Path) -> None:
    assert find_realnet(tmp_path, "disc") == tmp_path / "disc"
    (tmp_path / "_joint").mkdir()
    assert find_realnet(tmp_path, "disc") == tmp_path / "_joint"
    (tmp_path / "disc").mkdir()
    assert find_realnet(tmp_path, "disc") == tmp_path / "disc"
