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

from sia_gen.files import write_text

BINS = 24


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
class Section:
    """A part of the page; what is empty is not shown.

    Attributes:
        title: Its heading.
        text: A paragraph.
        figures: Rows of pictures.
        table: Rows of cells, the first being the heads.
        histogram: Scores of the test images.
        commands: Lines for the shell.
    """

    title: str
    text: str = ""
    figures: Sequence[Sequence[Figure]] = ()
    table: Sequence[Sequence[str]] = ()
    histogram: Histogram | None = None
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page: its title, what it says in one sentence, and its sections."""

    title: str
    summary: str
    sections: Sequence[Section] = field(default_factory=list)


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
        loader=PackageLoader("sia_gen.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template("page.html.jinja").render(page=page))
