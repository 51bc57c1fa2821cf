from __future__ import annotations

import base64
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from sia_gen.report.page import Figure, Link, Page, Section, score_histogram, write_page

VOID = {"meta", "img", "br", "line", "rect"}


class Checker(HTMLParser):
    """Collects texts and pictures, and sees to it that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attributes))
        if tag == "a":
            self.links.append(dict(attributes)["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def read(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text())
    assert not checker.open
    return checker


def test_page_shows_all_it_was_given(tmp_path: Path) -> None:
    figure = Figure(Image.new("L", (7, 5), 60), "cell <1>")
    page = Page(
        "Parts & more",
        "Image AUROC 0.912",
        [
            Section("Pictures", figures=[[figure, figure]]),
            Section("Numbers", table=[["metric", "value"], ["AUROC", Link("a > b", "a&b.html")]]),
            Section("Scores", histogram=score_histogram([0.1, 0.2], [0.8], 0.5)),
            Section("Commands", commands=["sia-gen synthesize --recipe 'a & b'"]),
        ],
        Link("All parts", "../index.html"),
    )
    write_page(tmp_path / "index.html", page)
    checker = read(tmp_path / "index.html")
    expected = ["All parts", "Parts & more", "Image AUROC 0.912", "AUROC", "a > b", "cell <1>"]
    assert set(expected) <= set(checker.texts)
    assert any("sia-gen synthesize --recipe 'a & b'" in text for text in checker.texts)
    assert checker.links == ["../index.html", "a&b.html"]
    assert len(checker.pictures) == 2
    for picture in checker.pictures:
        assert picture["alt"] == "cell <1>"
        encoded = str(picture["src"]).removeprefix("data:image/png;base64,")
        with Image.open(BytesIO(base64.b64decode(encoded))) as image:
            assert image.size == (7, 5)


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", Page("<script>alert(1)</script>", "", []))
    assert "<script>" not in (tmp_path / "index.html").read_text()


def test_histogram_counts_each_class_for_itself() -> None:
    normal, anomalous = [0.01, 0.02, 0.03, 0.5], [0.99, 1.0, 0.51]
    histogram = score_histogram(normal, anomalous, 0.4)
    assert [height for height in histogram.normal if height] == [1.0, 1 / 3]
    assert [height for height in histogram.anomalous if height] == [0.5, 1.0]
    edges = np.linspace(0, 1, len(histogram.anomalous) + 1)
    places = [index for index, height in enumerate(histogram.anomalous) if height]
    assert edges[places[0]] <= 0.51 < edges[places[0] + 1]
    assert histogram.threshold == 0.4


def test_histogram_of_no_scores_is_flat() -> None:
    histogram = score_histogram([], [], 0.5)
    assert not any(histogram.normal + histogram.anomalous)
