"""Exported models see the same in other runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from sia_gen import RealNet
from sia_gen.errors import ModelError, OutputError
from sia_gen.io.locks import LOCKS
from sia_gen.realnet import export
from sia_gen.realnet.export import export_realnet
from tests.small_networks import save_detector


@pytest.fixture(params=["small", "retrieval", pytest.param("full", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    if request.param == "retrieval":
        save_detector(path, architecture="retrieval", memory_size=50, rrs="all")
    elif request.param == "small":
        request.getfixturevalue("shallow")
        save_detector(path, strides=[16])
    else:
        save_detector(path, strides=[8, 16], backbone="resnet18")
    return path


def shown(folder: Path) -> list[str]:
    """The files of a folder, besides that of its locks."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCKS)


def test_onnx_gives_the_same_maps_and_scores_for_any_batch(folder: Path, tmp_path: Path) -> None:
    assert export_realnet(folder, tmp_path / "model.onnx", 1) <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    model = RealNet.from_pretrained(folder).eval()
    for count in (1, 2, 5):
        images = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count))
        found = dict(
            zip(["map", "score"], session.run(None, {"images": images.numpy()}), strict=True)
        )
        with torch.no_grad():
            output = model(images)
        assert np.abs(found["map"] - output.anomaly_map.numpy()).max() <= 1e-4
        assert np.abs(found["score"] - output.score.numpy()).max() <= 1e-4
    assert [one.name for one in session.get_outputs()] == ["anomaly_map", "score"]
    assert shown(tmp_path) == ["model", "model.onnx"]


def test_torch_program_gives_the_same_and_takes_colour(folder: Path, tmp_path: Path) -> None:
    assert export_realnet(folder, tmp_path / "model.pt2", 3) <= 1e-4
    program = torch.export.load(tmp_path / "model.pt2").module()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = RealNet.from_pretrained(folder).eval()(images)
        found = program(images)
    torch.testing.assert_close(found[0], expected.anomaly_map, rtol=0, atol=1e-4)


def test_model_that_differs_after_the_export_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = tmp_path / "out", RealNet.from_pretrained(folder).eval()

    def run_program(_: Path, images: torch.Tensor) -> NDArray[np.float32]:
        return model(images).anomaly_map.numpy() + np.float32(2e-4)

    monkeypatch.setattr(export, "write_program", lambda plain, images, path: path.touch())
    monkeypatch.setattr(export, "run_program", run_program)
    with pytest.raises(ModelError, match="differs by 2"):
        export_realnet(folder, out / "model.pt2", 1)
    assert shown(out) == []


def test_wrong_name_or_missing_package_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model", "model.pt", "model.ONNX"):
        with pytest.raises(
            OutputError, match=rf"{name} is not that of .* with \.onnx, or with \.pt2"
        ):
            export_realnet(folder, tmp_path / name, 1)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"needs the package 'onnx'.*pip install '\.\[export\]'"):
        export_realnet(folder, tmp_path / "model.onnx", 1)
    with pytest.raises(ModelError, match="there is no RealNet"):
        export_realnet(tmp_path, tmp_path / "model.pt2", 1)
