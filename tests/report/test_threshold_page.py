"""The page on which a threshold is chosen."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sia_gen.report.page import Link
from sia_gen.report.threshold_page import SCRIPT, JudgedImage, ThresholdPage, write_threshold_page
from tests.report.test_page import VOID, Checker

NODE = shutil.which("node")


class Reader(Checker):
    """Also collects what scripts hold, and the names that labels and scripts can find."""

    def __init__(self) -> None:
        super().__init__()
        self.identifiers: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {*VOID, "input", "link"}:
            super().handle_starttag(tag, attributes)
        self.identifiers += [value for name, value in attributes if name == "id" and value]


def image(name: str, score: float, label: Any = None) -> JudgedImage:
    return JudgedImage(name, score, label, "", "a.jpg", "a.jpg", "a.webp")


def write(path: Path, *images: JudgedImage) -> Reader:
    above = Link("Above", "index.html")
    write_threshold_page(path, ThresholdPage("Parts", "Move it.", 0.25, list(images), above))
    reader = Reader()
    reader.feed(path.read_text())
    assert not reader.open
    return reader


def content(reader: Reader) -> Any:
    return next(json.loads(text) for text in reader.texts if text.startswith('{"images"'))


def test_page_holds_all_images_and_whatever_its_script_looks_for(tmp_path: Path) -> None:
    hostile = "</script><script>alert('&amp;')"
    images = [image(hostile, 0.5, "anomalous"), image("b", 0.125, "normal")]
    reader = write(tmp_path / "page.html", *images)
    assert content(reader) == {"threshold": 0.25, "images": [list(one) for one in images]}
    assert reader.links == ["index.html"]
    wanted = set(SCRIPT.read_text().split('find("')[1:])
    assert {text.partition('"')[0] for text in wanted} <= {*reader.identifiers}
    assert len(set(reader.identifiers)) == len(reader.identifiers)
    # Nothing is fetched from elsewhere.
    assert "http://" not in (tmp_path / "page.html").read_text().replace("http://www.w3.org/", "")
    assert "https://" not in (tmp_path / "page.html").read_text()


def test_without_labels_there_are_no_costs(tmp_path: Path) -> None:
    assert "miss" in write(tmp_path / "a.html", image("a", 0.5, "normal")).identifiers
    assert "miss" not in write(tmp_path / "b.html", image("a", 0.5)).identifiers


def run_script(expression: str, images: list[dict[str, Any]]) -> Any:
    """Evaluates an expression with the functions of the script and `images`."""
    text = f"const judging = require({json.dumps(str(SCRIPT))});"
    text += f"const images = {json.dumps(images)};"
    text += f"console.log(JSON.stringify({expression}))"
    assert NODE is not None
    told = subprocess.run([NODE, "-e", text], capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


@pytest.mark.skipif(NODE is None, reason="node runs the script here")
def test_script_counts_and_finds_the_cheapest_threshold() -> None:
    rng = np.random.default_rng(0)
    for number, (miss, alarm) in enumerate([(10, 1), (1, 10), (1, 1), (0, 1), (2.5, 1.25)]):
        # Few values, so that there are ties.
        labels = rng.random(40) < 0.4
        scores = (rng.random(40) * (8 if number % 2 else 1000)).round() / 1000 + 0.3 * labels
        images = [
            {"score": float(score), "label": "anomalous" if label else "normal"}
            for score, label in zip(scores, labels, strict=True)
        ]

        def cost(threshold: float) -> float:
            called = scores > threshold  # noqa: B023
            missed = (labels & ~called).sum()  # noqa: B023
            return float(miss * missed + alarm * (called & ~labels).sum())  # noqa: B023

        found = run_script(f"judging.cheapest(images, {miss}, {alarm})", images)
        assert cost(found) == pytest.approx(min(map(cost, [-1.0, *scores])))
        counts = run_script("judging.count(images, 0.35)", images)
        assert counts["defects"] == labels.sum()
        assert counts["alarms"] == ((scores > 0.35) & ~labels).sum()
        assert counts["missed"] == ((scores <= 0.35) & labels).sum()


@pytest.mark.skipif(NODE is None, reason="node runs the script here")
def test_steps_of_the_threshold_judge_one_score_more_each() -> None:
    close = float(np.nextafter(0.1, 1))
    images = [{"score": score, "label": None} for score in (0.1, 0.2, 0.2, 0.4, close)]
    up = "[0, 0, 0, 0, 0].reduce((all) => [...all, judging.neighbour(images, all.at(-1), 1)], [0])"
    steps = run_script(up, images)
    above = [sum(one["score"] > step for one in images) for step in steps]
    assert above == [5, 4, 3, 1, 0, 0]
    down = run_script("judging.neighbour(images, 1, -1)", images)
    assert sum(one["score"] > down for one in images) == 1
    assert all(a <= b for a, b in itertools.pairwise(steps))
