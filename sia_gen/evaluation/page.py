"""What the page of an evaluation shows of each category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sia_gen.evaluation.results import COLUMNS, Result
from sia_gen.evaluation.scoring import ScoredImage
from sia_gen.images.loading import to_picture
from sia_gen.metrics import cumulative_counts
from sia_gen.realnet.model import RealNet
from sia_gen.report.heatmaps import overlay
from sia_gen.report.page import Chart, Figure, Section, score_histogram

# By title, images with their pixels (C, H, W) and anomaly maps (H, W).
Shown = dict[str, list[tuple[ScoredImage, Any, Any]]]
THUMBNAIL = 160


def category_sections(
    category: str,
    result: Result,
    images: Sequence[ScoredImage],
    shown: Shown,
    model: RealNet,
) -> list[Section]:
    """Everything about a category."""
    found = [one.score for one in images if one.image.label]
    good = [one.score for one in images if not one.image.label]
    metrics = [
        (head, f"{result.metrics[name]:.3f}")
        for name, head in COLUMNS.items()
        if name in result.metrics
    ]
    sections = [
        Section(
            title=category,
            text=f"{len(found)} images with defects and {len(good)} good ones.",
            table=[("metric", "value"), *metrics],
            histogram=score_histogram(good, found, result.metrics["threshold"]),
            charts=curves(result, images),
        )
    ]
    sections += [
        picture_section(category, title, chosen) for title, chosen in shown.items() if chosen
    ]
    return [*sections, defect_section(category, result), feature_section(category, model)]


def picture_section(
    category: str, title: str, chosen: Sequence[tuple[ScoredImage, Any, Any]]
) -> Section:
    """Images in a row, and below each where the detector sees a defect."""
    pictures = [Figure(small(to_picture(pixels)), one.image.name) for one, pixels, _ in chosen]
    maps = [
        Figure(small(overlay(pixels, anomaly_map)), f"{one.image.defect}: {one.score:.2f}")
        for one, pixels, anomaly_map in chosen
    ]
    return Section(title=f"{category}: {title.lower()}", figures=[pictures, maps])


def curves(result: Result, images: Sequence[ScoredImage]) -> list[Chart]:
    """The ROC curve of the images, and those of the pixels if there are masks."""
    false, true, _ = cumulative_counts(
        [one.image.label for one in images], [one.score for one in images]
    )
    rates = np.stack([false / false[-1], true / true[-1]], axis=1)
    charts = [curve(rates, "ROC of the images: true positive rate")]
    if result.pixels is not None:
        charts.append(curve(result.pixels.roc, "ROC of the pixels: true positive rate"))
        charts.append(curve(result.pixels.overlap, "PRO: mean overlap with the regions"))
    return charts


def curve(points: NDArray[np.float64], label: str) -> Chart:
    """A curve over the false positive rate, (P, 2)."""
    xs, ys = points.T.tolist()
    return Chart(xs, ys, ys, ys, [], None, "false positive rate", label, y_max=1.0)


def defect_section(category: str, result: Result) -> Section:
    """The metrics by type of defect."""
    names = list(dict.fromkeys(name for values in result.defects.values() for name in values))
    rows = [
        (defect, *(cell(values.get(name)) for name in names))
        for defect, values in result.defects.items()
    ]
    heads = [COLUMNS.get(name, "images") for name in names]
    return Section(
        title=f"{category}: by type of defect",
        text="Each type against all good images.",
        table=[("defect", *heads), *rows],
    )


def cell(value: float | None) -> str:
    """A figure in a table; counts without decimals."""
    return "-" if value is None else f"{value:.3f}".removesuffix(".000")


def feature_section(category: str, model: RealNet) -> Section:
    """Which channels AFS kept: their losses against those of the others."""
    rows = []
    for layer, kept in enumerate(model.afs.kept):
        losses = model.afs.get_buffer(f"losses_{layer}")
        if not bool(losses.isfinite().all()):
            # Nothing was fitted.
            continue
        chosen = torch.zeros_like(losses, dtype=torch.bool)
        chosen[model.afs.get_buffer(f"indices_{layer}")] = True
        others = f"{float(losses[~chosen].mean()):.4f}" if bool((~chosen).any()) else "-"
        best, mean = float(losses.min()), float(losses[chosen].mean())
        rows.append(
            (f"{layer + 1}", f"{kept} of {len(losses)}", f"{best:.4f}", f"{mean:.4f}", others)
        )
    heads = ("layer", "channels kept", "lowest loss", "mean of the kept", "mean of the others")
    return Section(
        title=f"{category}: features",
        text="AFS keeps the channels that tell synthetic anomalies best: those of the lowest loss.",
        table=[heads, *rows],
    )


def small(picture: Image.Image) -> Image.Image:
    """A picture, made small."""
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture
