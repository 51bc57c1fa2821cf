"""Exported models see the same in other runtimes, and say what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sia_gen import RealNet
from sia_gen.deployment import formats
from sia_gen.deployment.export import TOLERANCE_RESIZED, export_realnet
from sia_gen.deployment.formats import FORMATS, Outputs
from sia_gen.errors import ModelError, OutputError
from sia_gen.io.locks import LOCKS
from sia_gen.version import __version__
from tests.deployment.conftest import RETRIEVAL

if TYPE_CHECKING:
    from tests.deployment.conftest import Save


@pytest.fixture(
    params=[
        pytest.param("small", marks=pytest.mark.slow),
        "retrieval",
        pytest.param("full", marks=pytest.mark.slow),
    ]
)
def folder(request: pytest.FixtureRequest, save: Save) -> Path:
    if request.param == "retrieval":
        return save(**RETRIEVAL)
    if request.param == "small":
        request.getfixturevalue("shallow")
        return save(strides=[16])
    return save(strides=[8, 16], backbone="resnet18")


def shown(folder: Path) -> list[str]:
    """The files of a folder, besides that of its locks."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCKS)


def test_onnx_gives_the_same_maps_and_scores_for_any_batch(folder: Path, tmp_path: Path) -> None:
    assert export_realnet(folder, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    model = RealNet.from_pretrained(folder).eval()
    for count in (1, 2, 65):
        images = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count))
        found = dict(
            zip(["map", "score"], session.run(None, {"images": images.numpy()}), strict=True)
        )
        with torch.no_grad():
            output = model(images)
        assert np.abs(found["map"] - output.anomaly_map.numpy()).max() <= 1e-4
        assert np.abs(found["score"] - output.score.numpy()).max() <= 1e-4
    assert [one.name for one in session.get_outputs()] == ["anomaly_map", "score"]
    assert shown(tmp_path) == ["model", "model.json", "model.onnx"]


def test_torch_program_gives_the_same_and_takes_colour(save: Save, tmp_path: Path) -> None:
    folder = save(mode="RGB", **RETRIEVAL)
    assert export_realnet(folder, tmp_path / "model.pt2") <= 1e-4
    extra = {"description.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = RealNet.from_pretrained(folder).eval()(images)
        found = program(images)
    torch.testing.assert_close(found[0], expected.anomaly_map, rtol=0, atol=1e-4)
    assert json.loads(extra["description.json"])["mode"] == "RGB"


def test_openvino_gives_the_same_and_says_the_same(save: Save, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    folder = save(**RETRIEVAL)
    assert export_realnet(folder, tmp_path / "model.xml") <= 1e-4
    assert shown(tmp_path) == ["model", "model.bin", "model.json", "model.xml"]
    model = openvino.Core().read_model(tmp_path / "model.xml")
    assert json.loads(model.get_rt_info(["model_info", "threshold"]).astype(str)) == 0.5


def test_file_and_json_beside_it_say_how_to_use_it(save: Save, tmp_path: Path) -> None:
    folder = save(rule="pad", white=4095, threshold=0.25, score_window=8, **RETRIEVAL)
    report = json.loads((folder / "fit.json").read_text()) | {"categories": ["disc"]}
    (folder / "fit.json").write_text(json.dumps(report))
    export_realnet(folder, tmp_path / "model.onnx")
    said = json.loads((tmp_path / "model.json").read_text())
    metadata = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert {name: json.loads(metadata[name]) for name in said} == said
    expected = {
        "sia_gen": __version__,
        "title": "Generated parts",
        "categories": ["disc"],
        "license": "cc0-1.0",
        "threshold": 0.25,
        "mode": "L",
        "white": 4095,
        "non_square": "pad",
        "image_size": 64,
        "score_window": 8,
        "preprocessing": False,
    }
    assert said | expected == said
    model = RealNet.from_pretrained(folder)
    assert said["image_mean"] == model.backbone.image_mean.flatten().tolist()
    assert said["image_std"] == model.backbone.image_std.flatten().tolist()
    (given,) = said["inputs"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [one.name for one in session.get_inputs()] == [given["name"]]
    assert session.get_inputs()[0].shape == given["shape"]
    assert [one["name"] for one in said["outputs"]] == [one.name for one in session.get_outputs()]


def test_model_that_differs_after_the_export_is_refused(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(**RETRIEVAL)
    out, model = tmp_path / "out", RealNet.from_pretrained(folder).eval()

    def run(_: Path, images: torch.Tensor) -> Outputs:
        output = model(images)
        return output.anomaly_map.numpy() + np.float32(2e-4), output.score.numpy()

    fake = FORMATS["torch"]._replace(write=lambda module, *rest: rest[-1].touch(), run=run)
    monkeypatch.setitem(formats.FORMATS, "torch", fake)
    with pytest.raises(ModelError, match="differs by 2"):
        export_realnet(folder, out / "model.pt2")
    assert shown(out) == []


@pytest.mark.parametrize("rule", ["pad", pytest.param("crop", marks=pytest.mark.slow)])
def test_graph_takes_photographs_of_any_size(save: Save, tmp_path: Path, rule: str) -> None:
    folder = save(rule=rule, **RETRIEVAL)
    out = tmp_path / "model.onnx"
    assert export_realnet(folder, out, preprocessing=True) <= TOLERANCE_RESIZED
    session = onnxruntime.InferenceSession(out)
    said = json.loads((tmp_path / "model.json").read_text())
    assert session.get_inputs()[0].shape == said["inputs"][0]["shape"]
    assert said["preprocessing"] is True
    for shape in ((1, 30, 90, 1), (3, 130, 64, 1)):
        photographs = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        maps, scores = session.run(None, {"images": photographs})
        assert maps.shape == (shape[0], 1, *shape[1:3])
        assert scores.shape == shape[:1]


def test_wrong_name_or_missing_package_is_one_line(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(**RETRIEVAL)
    for name in ("model", "model.pt", "model.ONNX"):
        with pytest.raises(
            OutputError, match=rf"{name} is not that of .* with \.onnx \(onnx\) or \.xml"
        ):
            export_realnet(folder, tmp_path / name)
    with pytest.raises(OutputError, match=r"ends with \.xml \(openvino\)\."):
        export_realnet(folder, tmp_path / "model.onnx", "openvino")
    with pytest.raises(OutputError, match=r"no format 'onyx' \(did you mean 'onnx'\?\)"):
        export_realnet(folder, tmp_path / "model.onnx", "onyx")
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"needs the package 'onnx'.*pip install '\.\[export\]'"):
        export_realnet(folder, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="there is no RealNet"):
        export_realnet(tmp_path, tmp_path / "model.pt2")
    assert shown(tmp_path) == ["model"]
