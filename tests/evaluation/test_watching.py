"""A folder that is watched: what arrives is scored once it is whole, until Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from tests.processes import Running
from tests.small_networks import save_detector

CPU = ["--device", "cpu", "--precision", "fp32"]


def look_often() -> None:
    from sia_gen.evaluation import predict

    predict.PAUSE = 0.1


@pytest.fixture
def place(tmp_path: Path, recipe: Recipe, photographs: Path) -> Path:
    """A model, photographs, and an empty folder."""
    save_detector(tmp_path / "model", strides=[16], threshold=0.0)
    (tmp_path / "model/recipe.yaml").write_text(recipe.to_yaml())
    shutil.copytree(photographs / "disc/test/good", tmp_path / "photos")
    (tmp_path / "inbox").mkdir()
    return tmp_path


def watch(place: Path, *more: str) -> Running:
    arguments = ["predict", "model", "--watch", "inbox", "--out", "inbox/out", *CPU, *more]
    return Running(arguments, place, place / "told.txt", condition=look_often)


def lines_of(place: Path) -> list[dict[str, object]]:
    table = place / "inbox/out/predictions.jsonl"
    text = table.read_text() if table.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def wait_for_lines(running: Running, place: Path, count: int) -> list[dict[str, object]]:
    while len(lines_of(place)) < count:
        assert not running.ends_within(0.02), running.told.read_text()
    return lines_of(place)


def test_what_arrives_is_scored_until_ctrl_c(place: Path) -> None:
    running = watch(place, "--save", "heatmaps,boxes", "--exit-code")
    wait_for_lines(running, place, 0)
    for number in (0, 1):
        shutil.copy(place / f"photos/00{number}.png", place / "inbox")
        found = wait_for_lines(running, place, number + 1)
        assert found[-1]["image"] == f"inbox/00{number}.png"
    # It comes in pieces, as over a slow network.
    content = (place / "photos/002.png").read_bytes()
    with (place / "inbox/002.png").open("wb") as file:
        for start in range(0, len(content), 100):
            file.write(content[start : start + 100])
            file.flush()
            time.sleep(0.05)
    assert wait_for_lines(running, place, 3)[2]["verdict"] == "anomalous"
    # A camera may use the same name again.
    shutil.copy(place / "photos/003.png", place / "inbox/000.png")
    assert wait_for_lines(running, place, 4)[3]["image"] == "inbox/000.png"
    running.send(signal.SIGINT)
    told = running.end(20)
    assert told.code == 3, told.text
    assert "watching inbox; Ctrl-C ends it." in told.text
    assert "3 of 3 images are anomalous; see inbox/out/predictions.csv" in told.text
    assert "error" not in told.text
    assert [line["verdict"] for line in lines_of(place)] == ["anomalous"] * 4
    document = json.loads((place / "inbox/out/annotations.json").read_text())
    assert len(document["images"]) == 3
    assert len(list((place / "inbox/out/heatmaps").iterdir())) == 3
    # It goes on where it was, and knows what it scored.
    running = watch(place, "--save", "heatmaps,boxes")
    shutil.copy(place / "photos/003.png", place / "inbox")
    assert wait_for_lines(running, place, 5)[4]["image"] == "inbox/003.png"
    running.send(signal.SIGINT)
    assert running.end(20).code == 0


def test_a_bad_file_does_not_end_it(place: Path) -> None:
    running = watch(place)
    (place / "inbox/bad.png").write_bytes(b"no image")
    assert wait_for_lines(running, place, 1)[0]["verdict"] == "unreadable"
    shutil.copy(place / "photos/000.png", place / "inbox")
    assert wait_for_lines(running, place, 2)[1]["verdict"] == "anomalous"
    running.send(signal.SIGINT)
    told = running.end(20)
    assert told.code == 2, told.text
    assert "error: 1 of 2 images were not scored; the first: cannot read the image" in told.text
