"""The files of an evaluation: scores, heat maps and a page per category, and the overview."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.config.recipe import Recipe
from sia_gen.evaluation.results import (
    COLUMNS,
    MEAN,
    METRICS,
    Result,
    ScoredImage,
    csv_text,
    in_figures,
)
from sia_gen.evaluation.threshold_page import FOLDER, judged_tests
from sia_gen.evaluation.threshold_page import PAGE as THRESHOLD_PAGE
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec, to_picture
from sia_gen.images.strips import open_scored, within_area
from sia_gen.io.files import atomic_folder, shortened_stem, write_json, write_text
from sia_gen.metrics import cumulative_counts
from sia_gen.realnet.inference import Fitted
from sia_gen.realnet.many import predict_tests
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.tiling import resized_map
from sia_gen.report.page import Chart, Figure, Link, Page, Section, score_histogram, write_page
from sia_gen.report.pictures import overlay, save_heatmap, within_limit
from sia_gen.report.threshold_page import ThresholdPage, write_threshold_page

PAGE = "index.html"
PICTURES = 8
COUNTS = {"anomalous_images": "images", "masked_images": "with a mask"}


def write_summary(out: Path, title: str, summary: dict[str, Any]) -> None:
    """Writes the fields of a `Summary` to a folder as JSON, Markdown and page."""
    write_json(out / METRICS, summary)
    write_text(out / "metrics.md", metrics_table(summary))
    heads, *categories, mean = metrics_rows(summary)
    rows: list[list[str | Link]] = [
        [Link(name, f"{name}/{PAGE}"), *cells] for name, *cells in categories
    ]
    overview = Section(
        title="Metrics",
        text="The page of a category has its curves, heat maps and types of defect.",
        table=[[*heads], *rows, [*mean]],
    )
    text = selection_text(summary["selected_on"])
    write_page(out / PAGE, Page(f"{title}: evaluation", text, [overview]))


def metrics_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Returns a table of the metrics: heads, categories, their mean."""
    columns = [name for name in COLUMNS if summary[MEAN].get(name) is not None]
    rows = [[summary["recipe"], *(COLUMNS[name] for name in columns)]]
    for name, values in [*summary["categories"].items(), (MEAN, summary[MEAN])]:
        rows.append([name, *(in_figures(column, values.get(column)) for column in columns)])
    return rows


def metrics_table(summary: Mapping[str, Any]) -> str:
    """Returns the metrics as a Markdown table."""
    heads, *categories, (_, *means) = metrics_rows(summary)
    rows = [heads, ["---"] * len(heads), *categories, [f"**{MEAN}**", *means]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, f"\n{selection_text(summary['selected_on'])}\n"])


def selection_text(selected_on: Mapping[str, str]) -> str:
    """Says which images selected the weights and the thresholds of these categories."""
    distinct = " / ".join(dict.fromkeys(selected_on.values()))
    return f"Weights and threshold were selected on {distinct}."


def write_category(
    folder: Path,
    recipe: Recipe,
    fitted: Fitted,
    result: Result,
    pictures: Path,
    accelerator: Accelerator,
) -> None:
    """Writes the folder of a category: its scores, some heat maps, and its pages.

    Args:
        folder: The folder, whose name is that of the category.
        recipe: That of the model.
        fitted: The model.
        result: The scores of its images.
        pictures: A folder with the pictures of all images, which becomes a part of the other.
        accelerator: Runs the model.
    """
    category, (model, threshold, selected_on) = folder.name, fitted
    with atomic_folder(folder) as temporary:
        kinds = ("normal", "anomalous")
        rows = [
            (image.name, kinds[image.label], image.defect, f"{score:.6f}", kinds[score > threshold])
            for image, score, _ in result.images
        ]
        heads = ("image", "label", "defect", "score", "verdict")
        write_text(temporary / "scores.csv", csv_text([heads, *rows]))
        pictures.rename(temporary / FOLDER)
        page_of_all = ThresholdPage(
            f"{recipe.title}: the threshold of {category}",
            "Move the threshold, and see what each image becomes.",
            threshold,
            judged_tests(result.images),
            Link(f"The evaluation of {category}", PAGE),
        )
        write_threshold_page(temporary / THRESHOLD_PAGE, page_of_all)
        chosen = worth_looking_at(result.images, threshold, PICTURES)
        heatmaps = temporary / "heatmaps"
        page = Page(
            title=f"{recipe.title}: evaluation of {category}",
            summary=selection_text({category: selected_on}),
            sections=[
                _score_section(category, result, threshold),
                *_picture_sections(heatmaps, category, chosen, model, recipe, accelerator),
                _defect_section(category, result),
                _feature_section(category, model),
            ],
            above=Link("All categories", f"../{PAGE}"),
        )
        write_page(temporary / PAGE, page)


def worth_looking_at(
    images: Sequence[ScoredImage], threshold: float, number: int
) -> dict[str, list[ScoredImage]]:
    """Chooses up to `number` images of each kind that is worth a look, none of them twice."""
    anomalous = sorted((one for one in images if one.image.label), key=lambda one: -one.score)
    normal = sorted((one for one in images if not one.image.label), key=lambda one: -one.score)
    borderline = sorted(images, key=lambda one: abs(one.score - threshold))
    groups = {
        "Highest-scoring defects": anomalous[:number],
        "Lowest-scoring defects": anomalous[::-1][:number],
        "Highest-scoring good images": normal[:number],
        "Nearest to the threshold": borderline[:number],
    }
    seen: set[TestImage] = set()
    for title, chosen in groups.items():
        groups[title] = [one for one in chosen if one.image not in seen]
        seen |= {one.image for one in chosen}
    return groups


def _score_section(category: str, result: Result, threshold: float) -> Section:
    found = [one.score for one in result.images if one.image.label]
    good = [one.score for one in result.images if not one.image.label]
    metrics = [
        (head, in_figures(name, value))
        for name, head in COLUMNS.items()
        if (value := result.metrics[name]) is not None
    ]
    masked = result.metrics["masked_images"]
    pixels = f" The metrics of pixels are those of {masked} with a mask." if masked else ""
    return Section(
        title=category,
        text=f"{len(found)} images with defects and {len(good)} good ones.{pixels}",
        table=[("metric", "value"), *metrics],
        histogram=score_histogram(good, found, threshold),
        charts=_curves(result),
        links=[Link("Every image, and the threshold as a slider", THRESHOLD_PAGE)],
    )


def _curves(result: Result) -> list[Chart]:
    """Returns the ROC curve of the images, and the curves of the pixels if there are masks."""
    labels = [one.image.label for one in result.images]
    if not any(labels):
        return []
    false, true, _ = cumulative_counts(labels, [one.score for one in result.images])
    roc = np.stack([false / false[-1], true / true[-1]], axis=1)
    curves = {"ROC of the images: true positive rate": roc}
    if result.pixels is not None:
        curves["ROC of the pixels: true positive rate"] = result.pixels.roc
        curves["PRO: mean overlap with the regions"] = result.pixels.overlap
    charts = []
    for label, points in curves.items():
        rate, value = points.T.tolist()
        charts.append(Chart(rate, value, "false positive rate", label, y_max=1.0))
    return charts


def _picture_sections(
    folder: Path,
    category: str,
    chosen: Mapping[str, Sequence[ScoredImage]],
    model: RealNet,
    recipe: Recipe,
    accelerator: Accelerator,
) -> list[Section]:
    """Writes the heat maps of the chosen images, and shows each below its image."""
    folder.mkdir()
    spec, number, sections = ImageSpec.of(recipe, model.image_size), 0, []
    for title, images in chosen.items():
        pictures, maps = [], []
        found = predict_tests(model, [one.image for one in images], spec, accelerator)
        for (_, score, _), (image, _, _, full_map) in zip(images, found, strict=True):
            found_in, scope = open_scored(image.path, spec)
            whole = within_area(found_in, scope.area)
            # Photographs that are cut into tiles may be shown at a smaller scale.
            pixels, anomaly_map = within_limit(whole, resized_map(full_map, whole.shape[-2:]))
            kind, stem = "anomalous" if image.label else "normal", shortened_stem(image.path.stem)
            name = f"{number:02d}_{kind}_{score:.3f}_{stem}.png"
            save_heatmap(folder / name, pixels, anomaly_map)
            pictures.append(Figure.small(to_picture(pixels), image.name))
            colours = overlay(pixels, anomaly_map)
            maps.append(Figure.small(colours, f"{image.defect}: {score:.2f}"))
            number += 1
        if images:
            sections.append(Section(f"{category}: {title.lower()}", figures=[pictures, maps]))
    return sections


def _defect_section(category: str, result: Result) -> Section:
    names = list(dict.fromkeys(name for values in result.defects.values() for name in values))
    rows = [
        (defect, *(in_figures(name, values.get(name)) for name in names))
        for defect, values in result.defects.items()
    ]
    heads = [COLUMNS.get(name) or COUNTS[name] for name in names]
    return Section(
        title=f"{category}: by type of defect",
        text="Each type against all good images.",
        table=[("defect", *heads), *rows],
    )


def _feature_section(category: str, model: RealNet) -> Section:
    """Compares the AFS losses of the channels that were kept with those of the others."""
    rows = []
    for layer, kept in enumerate(model.afs.kept):
        losses = model.afs.get_buffer(f"losses_{layer}")
        # A model that was never fitted has no losses.
        if not bool(losses.isfinite().all()):
            continue
        chosen = torch.zeros_like(losses, dtype=torch.bool)
        chosen[model.afs.get_buffer(f"indices_{layer}")] = True
        others = f"{float(losses[~chosen].mean()):.4f}" if bool((~chosen).any()) else "-"
        best, mean = f"{float(losses.min()):.4f}", f"{float(losses[chosen].mean()):.4f}"
        rows.append((f"{layer + 1}", f"{kept} of {len(losses)}", best, mean, others))
    heads = ("layer", "channels kept", "lowest loss", "mean of the kept", "mean of the others")
    return Section(
        title=f"{category}: features",
        text="AFS keeps the channels that tell synthetic anomalies best: those of the lowest loss.",
        table=[heads, *rows],
    )
