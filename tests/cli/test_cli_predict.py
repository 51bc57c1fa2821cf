"""predict and recalibrate on the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sia_gen import Detector
from sia_gen.config.recipe import Recipe
from tests.small_networks import save_detector

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

CPU = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def model(tmp_path: Path, recipe: Recipe) -> Path:
    save_detector(tmp_path / "model", strides=[16])
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path: Path, photographs: Path) -> Path:
    return shutil.copytree(photographs / "disc/test/good", tmp_path / "photos")


def test_verdicts_are_those_of_python(run: Run, model: Path, photos: Path) -> None:
    found = Detector.from_pretrained(model, device="cpu", precision="fp32").predict(photos)
    threshold = sorted(one.score for one in found)[1]
    assert run("predict", "model", "photos", "--threshold", str(threshold), *CPU).code == 0
    with (model.parent / "predictions/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [one.score for one in found]
    assert [row["verdict"] for row in rows].count("anomalous") == 2
    assert {float(row["threshold"]) for row in rows} == {threshold}


def test_exit_code_tells_the_verdict(run: Run, model: Path, photos: Path) -> None:
    for threshold, asked, code in (("0", True, 3), ("1", True, 0), ("0", False, 0)):
        options = ["--threshold", threshold, "--out", f"{threshold}{asked}", "--save", "none"]
        result = run("predict", "model", "photos", *options, *["--exit-code"] * asked, *CPU)
        assert result.code == code, result


def test_recalibrated_model_has_a_rate(run: Run, refuse: Refuse, model: Path, photos: Path) -> None:
    rate = ["--false-alarm-rate", "0.3"]
    line = refuse("predict", "model", "photos", *rate, *CPU)
    assert "Run 'sia-gen recalibrate model --good FOLDER'" in line
    line = refuse("recalibrate", "model", "--good", "photos", *CPU)
    assert "was fitted for no rate of false alarms. Give --false-alarm-rate" in line
    result = run("recalibrate", "model", "--good", "photos", *rate, *CPU)
    assert result.code == 0, result
    threshold = json.loads((model / "fit.json").read_text())["threshold"]
    assert f"The threshold was 0.5000 and is {threshold:.4f}, for false alarms of 30.00 %" in (
        result.out
    )
    assert "(95 % interval, 4 photographs)" in result.out
    assert run("predict", "model", "photos", *rate, *CPU).code == 0
    assert run("predict", "model", "photos", *CPU).code == 0


def test_doubts_are_one_line(run: Run, model: Path, photos: Path, photographs: Path) -> None:
    good = str(photographs / "disc/train/good")
    assert run("recalibrate", "model", "--good", good, "--false-alarm-rate", "0.1", *CPU).code == 0
    assert "differ from those" not in run("predict", "model", "photos", *CPU).err
    for path in photos.iterdir():
        with Image.open(path) as picture:
            large = np.asarray(picture.resize((64, 64))).astype(np.uint16) * 300
        Image.fromarray(large.clip(max=65535)).save(path)
    result = run("predict", "model", "photos", "--out", "again", *CPU)
    (line,) = [one for one in result.err.splitlines() if "differ from those" in one]
    assert line.startswith("warning: 4 of 4 photographs differ from those that the model learnt")
    assert "4 in size (the first, photos/000.png: 64 x 64 pixels instead of 32 x 32)" in line
    assert "4 in kind (the first, photos/000.png: grey, 16 bits instead of grey)" in line
    with (model.parent / "again/predictions.csv").open(newline="") as file:
        assert all(row["doubts"].startswith("size kind") for row in csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "2"], "the threshold is 2.0. Scores are in [0, 1]"),
        (["--false-alarm-rate", "0"], "the rate of false alarms is 0.0"),
        (["--threshold", "0.5", "--false-alarm-rate", "0.1"], "both a threshold and a rate"),
        (["--save", "maps"], "--save: there is no output 'maps'"),
    ],
)
def test_wrong_options_are_one_line(
    refuse: Refuse, model: Path, photos: Path, options: list[str], message: str
) -> None:
    assert message in refuse("predict", "model", "photos", *options, *CPU)
