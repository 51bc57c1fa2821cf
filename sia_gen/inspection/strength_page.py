"""The page of calibration: what samples of a category do at growing strength.

OUT/
    samples/<category>.png      a sample at each strength, side by side
    index.html                  these, and the curves
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sia_gen.config.strength import Strength
from sia_gen.errors import ImageError
from sia_gen.images.loading import read_image
from sia_gen.inspection.calibration import StrengthCurve
from sia_gen.io.files import atomic_path
from sia_gen.report.page import Chart, Figure, Level, Page, Section, write_page

SAMPLES = "samples"
SPREAD = (0.1, 0.9)


def write_strength_page(title: str, measured: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Writes the page of all categories.

    Args:
        title: Of the data set.
        measured: By category, its curve as plain numbers, and its "strength".
        out: Folder of the calibration, with the samples.
    """
    summary = "Distance from the normal images at growing strength, and the range to use."
    sections = [
        section(
            category,
            Strength.parse(entry["strength"]),
            StrengthCurve.from_json(entry),
            row_path(out, category),
        )
        for category, entry in measured.items()
    ]
    write_page(out / "index.html", Page(f"Strengths of {title}", summary, sections))


def row_path(out: Path, category: str) -> Path:
    """Where the samples of a category lie."""
    return out / SAMPLES / f"{category}.png"


def write_row(path: Path, images: Sequence[Image.Image]) -> None:
    """Writes square pictures of one size and mode side by side."""
    row = Image.fromarray(np.hstack([np.asarray(image) for image in images]))
    with atomic_path(path) as temporary:
        row.save(temporary, format="PNG")


def read_row(path: Path, strengths: Sequence[float]) -> list[Figure]:
    """The pictures that `write_row` wrote; none if they are not there."""
    # The curve is what counts: a row that is lost or damaged is left out.
    with contextlib.suppress(ImageError):
        row = read_image(path)
        side = row.height
        if row.width == len(strengths) * side:
            return [
                Figure(row.crop((place * side, 0, (place + 1) * side, side)), f"{strength:g}")
                for place, strength in enumerate(strengths)
            ]
    return []


def section(category: str, strength: Strength, curve: StrengthCurve, row: Path) -> Section:
    """The curve of a category, and a sample at each strength."""
    shown = read_row(row, curve.strengths.tolist())
    return Section(
        title=f"{category}: {strength}",
        text=(
            f"Below {strength.low:g} most samples are no farther from the normal images than these "
            f"are from each other; above {strength.high:g} they are nearer to noise."
            + (" The row is one sample, at growing strength." if shown else "")
        ),
        figures=[shown] if shown else [],
        charts=[
            distance_chart(
                curve.strengths,
                curve.samples,
                [
                    Level(
                        curve.abnormal_from,
                        "95 % of normal images, and of samples of strength 0, are below",
                    ),
                    Level(curve.object_until, "halfway to noise"),
                ],
                (strength.low, strength.high),
            )
        ],
    )


def distance_chart(
    strengths: Sequence[float] | np.ndarray[Any, Any],
    distances: Sequence[Any] | np.ndarray[Any, Any],
    levels: list[Level],
    chosen: tuple[float, float] | None = None,
) -> Chart:
    """The chart of distances by strength: the median, and where eight in ten samples lie."""
    low, high = (
        [float(np.quantile(found, quantile)) for found in distances] for quantile in SPREAD
    )
    return Chart(
        x=[float(strength) for strength in strengths],
        low=low,
        middle=[float(np.median(found)) for found in distances],
        high=high,
        levels=levels,
        chosen=chosen,
        x_label="strength",
        y_label="Distance from normal images: the median, and where eight in ten lie",
    )
