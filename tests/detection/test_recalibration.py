"""The threshold is set anew from good photographs that the model did not learn from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.detection.detector import Detector
from sia_gen.detection.recalibration import recalibrate
from sia_gen.errors import ImageError, OptionError
from sia_gen.images.learnt import LEARNT, Learnt
from sia_gen.io.files import sha256
from sia_gen.realnet.normal import NormalImages
from sia_gen.realnet.selection import threshold_for
from sia_gen.runtime.device import Runtime
from tests.small_networks import SELECTED_ON, save_detector

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def model(tmp_path: Path, recipe: Recipe) -> Path:
    folder = tmp_path / "model"
    save_detector(folder, strides=[16])
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


@pytest.fixture
def good(photographs: Path) -> Path:
    return photographs / "disc/train/good"


def report_of(model: Path) -> dict[str, object]:
    return dict(json.loads((model / "fit.json").read_text()))


def test_threshold_is_that_of_the_scores(model: Path, good: Path) -> None:
    scores = [found.score for found in Detector.load(model, CPU).predict(good)]
    before, after = recalibrate(model, good, CPU, false_alarm_rate=0.2)
    assert (before, after) == (0.5, threshold_for(scores, 0.2))
    report = report_of(model)
    assert report["threshold"] == Detector.load(model, CPU).threshold == after.threshold
    assert report["selected_on"] == f"{SELECTED_ON}; the threshold anew on 12 good photographs"
    assert report["earlier_thresholds"] == [{"threshold": 0.5, "selected_on": SELECTED_ON}]
    normal = NormalImages.read(model)
    assert normal is not None
    assert (normal.scores, normal.sizes, normal.kinds) == (scores, [(32, 32)], ["grey"])
    # The rate of last time is the default, and another one needs no photographs.
    assert recalibrate(model, good, CPU).after == after
    assert len(report_of(model)["earlier_thresholds"]) == 2  # type: ignore[arg-type]
    other = Detector.load(model, CPU, false_alarm_rate=0.5).threshold
    assert other == threshold_for(scores, 0.5).threshold < after.threshold


def test_what_was_learnt_is_left_out(
    model: Path, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(good.iterdir())
    learnt = Learnt(fit={str(path): sha256(path) for path in paths[:9]}, validation={})
    (model / LEARNT).write_text(learnt.model_dump_json())
    after = recalibrate(model, good, CPU, false_alarm_rate=0.2).after
    assert after.images == 3
    assert "left out 9 of 12 images, because the model learnt from them" in capfd.readouterr().err
    (tmp_path / "seen").mkdir()
    shutil.copy(paths[0], tmp_path / "seen/renamed.png")
    before = report_of(model)
    with pytest.raises(ImageError, match="the model learnt from all 1 images in"):
        recalibrate(model, tmp_path / "seen", CPU, false_alarm_rate=0.2)
    assert report_of(model) == before


def test_wrong_input_changes_nothing(model: Path, good: Path, tmp_path: Path) -> None:
    before = report_of(model)
    with pytest.raises(OptionError, match="was fitted for no rate of false alarms"):
        recalibrate(model, good, CPU)
    for rate in (0.0, 1.0, float("nan")):
        with pytest.raises(OptionError, match="the rate of false alarms is"):
            recalibrate(model, good, CPU, false_alarm_rate=rate)
    with pytest.raises(ImageError, match="there are no images at"):
        recalibrate(model, tmp_path / "nowhere", CPU, false_alarm_rate=0.1)
    damaged = shutil.copytree(good, tmp_path / "damaged")
    (damaged / "005.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"cannot read the image .*005\.png"):
        recalibrate(model, damaged, CPU, false_alarm_rate=0.1)
    assert report_of(model) == before
    assert not (model / "normal.json").exists()
