"""The page that shows a result: one HTML file with everything in it, made to be read anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from sia_gen.io.files import write_text

BINS = 24
# The plot in a chart of 720 x 300.
LEFT, RIGHT, TOP, BOTTOM = 56, 700, 16, 250


@dataclass(frozen=True)
class Figure:
    """A picture with a caption, which also describes it to those who cannot see it."""

    image: Image.Image
    caption: str

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        buffer = BytesIO()
        self.image.save(buffer, format="PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Bar:
    """One bin of the score histogram; heights are shares of the highest, 0 to 1."""

    normal: float
    anomalous: float


@dataclass(frozen=True)
class Histogram:
    """How the scores of normal and anomalous images spread over [0, 1], and the threshold."""

    bars: list[Bar]
    threshold: float


@dataclass(frozen=True)
class Bars:
    """How many there are in each of equal bins from `low` to `high`."""

    counts: list[int]
    low: float
    high: float
    label: str

    @property
    def heights(self) -> list[float]:
        """As shares of the highest."""
        return [count / max(1, *self.counts) for count in self.counts]


@dataclass(frozen=True)
class Level:
    """A horizontal line in a chart, and what it means."""

    value: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A curve with its spread.

    Attributes:
        x: Ascending, all of the four of the same length.
        low: Where the spread begins.
        middle: The curve.
        high: Where the spread ends.
        levels: Lines to compare with.
        chosen: A range of x to mark.
        x_label: What x is.
        y_label: What the curve is.
        y_max: The top of the picture; None leaves some room above the curve.
    """

    x: list[float]
    low: list[float]
    middle: list[float]
    high: list[float]
    levels: list[Level]
    chosen: tuple[float, float] | None
    x_label: str
    y_label: str
    y_max: float | None = None

    @property
    def top(self) -> float:
        """The largest value shown."""
        return self.y_max or 1.05 * max([*self.high, *(level.value for level in self.levels)])

    def left(self, x: float) -> float:
        """The horizontal place of x in the picture."""
        width = (self.x[-1] - self.x[0]) or 1.0
        return LEFT + (RIGHT - LEFT) * (x - self.x[0]) / width

    def above(self, y: float) -> float:
        """The vertical place of a value in the picture."""
        return BOTTOM - (BOTTOM - TOP) * y / self.top

    def points(self, values: Sequence[float]) -> str:
        """The places of a curve, as SVG writes them."""
        pairs = zip(self.x, values, strict=True)
        return " ".join(f"{self.left(x):.1f},{self.above(y):.1f}" for x, y in pairs)

    @property
    def band(self) -> str:
        """The outline of the spread, as SVG writes it."""
        back = self.points(self.high).split()[::-1]
        return " ".join([self.points(self.low), *back])


@dataclass(frozen=True)
class Link:
    """Words that lead to another page."""

    text: str
    address: str


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is not shown.

    Attributes:
        title: Its heading.
        text: A paragraph.
        figures: Rows of pictures.
        table: Rows of cells, the first being the heads.
        histogram: Scores of the test images.
        bars: Counts.
        charts: Curves.
        commands: Lines for the shell.
    """

    title: str
    text: str = ""
    figures: Sequence[Sequence[Figure]] = ()
    table: Sequence[Sequence[str | Link]] = ()
    histogram: Histogram | None = None
    bars: Bars | None = None
    charts: Sequence[Chart] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page: its title, what it says in one sentence, its sections, and the page above it."""

    title: str
    summary: str
    sections: Sequence[Section] = field(default_factory=list)
    above: Link | None = None


def score_histogram(
    normal: Sequence[float], anomalous: Sequence[float], threshold: float
) -> Histogram:
    """Counts scores in [0, 1] in bins; each class is scaled to its own highest bin."""
    shares = []
    for scores in (normal, anomalous):
        counts = np.histogram(scores, bins=BINS, range=(0, 1))[0]
        shares.append(counts / max(1, counts.max()))
    bars = [Bar(float(low), float(high)) for low, high in zip(*shares, strict=True)]
    return Histogram(bars, threshold)


def write_page(path: Path, page: Page) -> None:
    """Writes the page, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("sia_gen.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template("page.html.jinja").render(page=page))
