"""The page on which a threshold is chosen: a slider judges every image anew, without a server.

The page needs no other file but the pictures beside it.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from sia_gen.io.files import write_text
from sia_gen.report.page import Link, open_template

SCRIPT = Path(__file__).with_name("threshold_page.js")


class JudgedImage(NamedTuple):
    """An image with its score, and the addresses of its pictures relative to the page."""

    name: str
    score: float
    label: Literal["normal", "anomalous"] | None  # None: nobody knows
    kind: str  # type of defect; may be empty
    photograph: str
    thumbnail: str
    heatmap: str  # transparent where nothing is anomalous, to lie over the photograph


class ThresholdPage(NamedTuple):
    """The page: its title, a summary in a sentence, the threshold as it was fitted, the images."""

    title: str
    summary: str
    threshold: float
    images: list[JudgedImage]
    above: Link | None = None


def write_threshold_page(path: Path, page: ThresholdPage) -> None:
    """Writes the page, whole or not at all."""
    template = open_template("sia_gen.report", "threshold_page.html.jinja", html=True)
    labelled = any(image.label is not None for image in page.images)
    script = SCRIPT.read_text(encoding="utf-8")
    write_text(path, template.render(page=page, labelled=labelled, script=script))
