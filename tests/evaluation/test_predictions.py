"""The table grows line by line, and goes on wherever a run ended."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.detection.detector import Detector
from sia_gen.errors import ImageError, OutputError
from sia_gen.evaluation import predict as module
from sia_gen.evaluation.predict import predict
from sia_gen.realnet.model import RealNet
from sia_gen.runtime.device import Runtime
from tests.small_networks import save_detector

CPU = Runtime("fp32", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_detector(folder, strides=[16])
    (folder / "recipe.yaml").write_text(small.to_yaml())
    return folder


@pytest.fixture
def photos(photographs: Path, tmp_path: Path) -> Path:
    return shutil.copytree(photographs / "disc/test", tmp_path / "photos")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photographs that are scored."""
    paths: list[Path] = []

    def watched(self: Detector, photographs: list[Path], *, shared: bool) -> object:
        assert not shared
        paths.extend(photographs)
        return stream(self, photographs)

    stream = Detector.stream
    monkeypatch.setattr(Detector, "stream", watched)
    return paths


def lines_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lines_appear_before_the_end(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network fails in the middle, as if the power did."""
    whole, out, calls = tmp_path / "whole", tmp_path / "out", list[int]()

    def forward(self: RealNet, *given: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *given)  # type: ignore[arg-type]

    predict(model, [photos], whole, CPU, save="heatmaps,boxes")
    original = RealNet.forward
    monkeypatch.setattr("sia_gen.realnet.many.BATCH_SIZE", 2)
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    monkeypatch.setattr(RealNet, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [photos], out, CPU, save="heatmaps,boxes")
    assert 2 <= len(lines_of(out)) == len(rows_of(out)) < 8
    assert len(list((out / "heatmaps").rglob("*.png"))) >= len(lines_of(out))
    # What the kill might have left: a cut off line, and rows that only one of the tables has.
    with (out / "predictions.jsonl").open("a") as file:
        file.write('{"image": "ph')
    monkeypatch.setattr(RealNet, "forward", original)
    predict(model, [photos], out, CPU, save="heatmaps,boxes")
    approximately = [line | {"score": pytest.approx(line["score"])} for line in lines_of(whole)]
    without = [line | {"regions": None} for line in lines_of(out)]
    assert without == [line | {"regions": None} for line in approximately]
    assert rows_of(out) == [
        row | {"score": str(line["score"])}
        for row, line in zip(rows_of(whole), lines_of(out), strict=True)
    ]
    files = [
        sorted(path.relative_to(one) for path in one.rglob("*") if ".locks" not in path.parts)
        for one in (whole, out)
    ]
    assert files[0] == files[1]


def test_what_is_there_is_not_scored_again(
    model: Path, photos: Path, tmp_path: Path, scored: list[Path]
) -> None:
    first = predict(model, [photos], tmp_path / "out", CPU)
    assert len(scored) == 8
    assert predict(model, [photos], tmp_path / "out", CPU) == first
    assert len(scored) == 8
    # A new file of the same stem comes first, but does not take the heat map of the other.
    new = photos / "good/000.bmp"
    shutil.copy(photos / "good/000.png", new)
    changed = photos / "scratch/003.png"
    shutil.copy(photos / "good/001.png", changed)
    os.utime(changed, ns=(1, 1))
    counts = predict(model, [photos], tmp_path / "out", CPU)
    assert (counts.photographs, scored[8:]) == (9, [new, changed])
    assert [line["name"] for line in lines_of(tmp_path / "out")][8:] == [
        "good/000-2.png",
        "scratch/003.png",
    ]
    predict(model, [photos], tmp_path / "out", CPU, resume=False)
    assert len(scored) == 8 + 2 + 9
    assert len(lines_of(tmp_path / "out")) == len(rows_of(tmp_path / "out")) == 9


def test_other_photographs_are_added_but_not_counted(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert predict(model, [photos / "good"], out, CPU).photographs == 4
    assert predict(model, [photos / "scratch"], out, CPU).photographs == 4
    assert len(rows_of(out)) == 8
    names = [line["name"] for line in lines_of(out)]
    assert names[4:] == [f"{number:03d}-2.png" for number in range(4)]
    assert len(list((out / "heatmaps").iterdir())) == 8


def test_predictions_of_another_threshold_are_not_mixed(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(model, [photos], out, CPU)
    before = (out / "predictions.jsonl").read_bytes()
    for options, what in (
        ({"threshold": 0.25}, r"another threshold \(0\.5, now 0\.25\)"),
        ({"save": "none"}, r"another save \(\['heatmaps'\], now \[\]\)"),
    ):
        with pytest.raises(OutputError, match=what):
            predict(model, [photos], out, CPU, **options)  # type: ignore[arg-type]
    assert (out / "predictions.jsonl").read_bytes() == before
    predict(model, [photos], out, CPU, threshold=0.25, resume=False)
    assert {row["threshold"] for row in rows_of(out)} == {"0.25"}


def test_a_damaged_line_is_named(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(model, [photos], out, CPU)
    lines = (out / "predictions.jsonl").read_text().splitlines()
    (out / "predictions.jsonl").write_text("\n".join([lines[0], "{}", *lines[2:], ""]))
    with pytest.raises(OutputError, match=r"line 2 of .*predictions\.jsonl is damaged"):
        predict(model, [photos], out, CPU)


def test_a_bad_file_costs_nothing_else(
    model: Path, photos: Path, tmp_path: Path, scored: list[Path]
) -> None:
    out, bad = tmp_path / "out", photos / "good/001.png"
    bad.write_bytes(b"no image")
    for tries, message in enumerate(["cannot read the image", "it was tried before"]):
        with pytest.raises(ImageError, match=f"1 of 8 images were not scored; .*{message}"):
            predict(model, [photos], out, CPU)
        assert len(scored) == 8, tries
    verdicts = [row["verdict"] for row in rows_of(out)]
    assert (len(verdicts), verdicts.index("unreadable")) == (8, 1)
    shutil.copy(photos / "good/000.png", bad)
    os.utime(bad, ns=(1, 1))
    assert predict(model, [photos], out, CPU).photographs == 8
