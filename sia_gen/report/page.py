"""The page that shows a result: one self-contained HTML file."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from sia_gen.io.files import write_text

BINS = 24
THUMBNAIL = 160
# The plot in a chart of 720 x 300.
LEFT, RIGHT, TOP, BOTTOM = 56, 700, 16, 250


class Figure(NamedTuple):
    """A picture with a caption, which also describes it to those who cannot see it."""

    image: Image.Image
    caption: str

    @classmethod
    def small(cls, picture: Image.Image, caption: str, side: int = THUMBNAIL) -> Self:
        """Returns a figure of at most `side` x `side` pixels; the picture is shrunk in place."""
        picture.thumbnail((side, side))
        return cls(picture, caption)

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        buffer = BytesIO()
        self.image.save(buffer, format="PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class Histogram(NamedTuple):
    """The scores of normal and anomalous images in bins of [0, 1], and the threshold.

    Heights are shares of the highest bin of each, 0 to 1.
    """

    normal: list[float]
    anomalous: list[float]
    threshold: float


class Bars(NamedTuple):
    """Counts in equal bins from `low` to `high`."""

    counts: list[int]
    low: float
    high: float
    label: str

    @property
    def heights(self) -> list[float]:
        """The counts as shares of the highest."""
        return [count / max(1, *self.counts) for count in self.counts]


class Level(NamedTuple):
    """A horizontal line in a chart, and its meaning."""

    value: float
    label: str


class Chart(NamedTuple):
    """A curve over ascending x, with a band around it if `low` and `high` are given."""

    x: Sequence[float]
    middle: Sequence[float]
    x_label: str
    y_label: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    levels: Sequence[Level] = ()  # lines to compare with
    chosen: tuple[float, float] | None = None  # range of x to mark
    y_max: float | None = None  # top of the vertical axis; None: some room above the curve

    @property
    def top(self) -> float:
        """The top of the vertical axis."""
        levels = (level.value for level in self.levels)
        return self.y_max or 1.05 * max([*self.middle, *self.high, *levels])

    def left(self, x: float) -> float:
        """Returns the horizontal place of x in the picture."""
        width = (self.x[-1] - self.x[0]) or 1.0
        return LEFT + (RIGHT - LEFT) * (x - self.x[0]) / width

    def above(self, y: float) -> float:
        """Returns the vertical place of a value in the picture."""
        return BOTTOM - (BOTTOM - TOP) * y / self.top

    def points(self, values: Sequence[float]) -> str:
        """Returns the places of values at each x, in the syntax of SVG."""
        pairs = zip(self.x, values, strict=True)
        return " ".join(f"{self.left(x):.1f},{self.above(y):.1f}" for x, y in pairs)

    @property
    def band(self) -> str:
        """The outline of the band, in the syntax of SVG."""
        back = self.points(self.high).split()[::-1]
        return " ".join([self.points(self.low), *back])


class Link(NamedTuple):
    """Words that lead to another page."""

    text: str
    address: str


class Section(NamedTuple):
    """A part of the page; empty fields are not shown. The first row of a table has the heads."""

    title: str
    text: str = ""
    figures: Sequence[Sequence[Figure]] = ()
    table: Sequence[Sequence[str | Link]] = ()
    histogram: Histogram | None = None
    bars: Bars | None = None
    charts: Sequence[Chart] = ()
    commands: Sequence[str] = ()
    links: Sequence[Link] = ()


class Page(NamedTuple):
    """A page: its title, a summary in one sentence, its sections, and a link to the page above."""

    title: str
    summary: str
    sections: Sequence[Section] = ()
    above: Link | None = None


def score_histogram(
    normal: Sequence[float], anomalous: Sequence[float], threshold: float
) -> Histogram:
    """Counts scores in [0, 1] in bins; each class is scaled to its own highest bin."""
    heights = []
    for scores in (normal, anomalous):
        counts = np.histogram(scores, bins=BINS, range=(0, 1))[0]
        heights.append((counts / max(1, counts.max())).tolist())
    return Histogram(heights[0], heights[1], threshold)


def open_template(package: str, name: str, *, html: bool = False, trim: bool = True) -> Template:
    """Opens a template that lies in a package; without `trim`, lines of statements stay empty."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        # In Markdown, HTML entities would remain as they are.
        autoescape=html,  # noqa: S701
        undefined=StrictUndefined,
        keep_trailing_newline=not html,
        trim_blocks=trim,
        lstrip_blocks=trim,
    )
    return environment.get_template(name)


def write_page(path: Path, page: Page) -> None:
    """Writes the page, whole or not at all."""
    template = open_template("sia_gen.report", "page.html.jinja", html=True)
    write_text(path, template.render(page=page))
