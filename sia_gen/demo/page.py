"""What the demo's page shows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import list_images
from sia_gen.images.loading import ImageSpec, load_images, to_picture
from sia_gen.images.test_set import list_test_images
from sia_gen.realnet.loading import load_realnet
from sia_gen.realnet.prediction import predict_images
from sia_gen.report.heatmaps import overlay
from sia_gen.report.page import (
    Figure,
    Histogram,
    Page,
    Section,
    score_histogram,
    write_page,
)
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import load_pipeline

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
SHOWN = 6
SEEDS = (0, 1, 2)
PICTURE_SIZE = 192


def write_demo_page(
    recipe: Recipe,
    root: Path,
    out: Path,
    times: dict[str, float],
    metrics: dict[str, Any],
    runtime: Runtime,
) -> Path:
    """Writes the page of a finished demo and returns its path."""
    category = recipe.categories[0]
    values = metrics["categories"][category]
    page = Page(
        title="sia-gen demo: defects of solar cells, learnt from good cells alone",
        summary=(
            f"Image AUROC {values['image_auroc']:.3f} on {values['anomalous_images']} real defects "
            f"and {values['normal_images']} good cells. No real defect was seen in training."
        ),
        sections=[
            normal_section(recipe, root, category),
            strength_section(recipe, out / "diffusion" / category),
            defect_section(recipe, root, out, category, runtime),
            metrics_section(values, out / "evaluation" / category / "scores.csv"),
            time_section(times),
            command_section(recipe, out),
        ],
    )
    write_page(out / "index.html", page)
    return out / "index.html"


def normal_section(recipe: Recipe, root: Path, category: str) -> Section:
    """Some of the images everything was learnt from."""
    paths = list_images(recipe, root, category).fit
    images = load_images(paths[:SHOWN], ImageSpec.of(recipe, PICTURE_SIZE))
    return Section(
        title="Good cells",
        text=f"Six of the {len(paths)} photographs that everything below was learnt from.",
        figures=[
            [
                Figure(to_picture(image), path.stem)
                for image, path in zip(images, paths[:SHOWN], strict=True)
            ]
        ],
    )


def strength_section(recipe: Recipe, model: Path) -> Section:
    """The same noise at growing strength, one row per seed."""
    pipeline = load_pipeline(model, recipe)
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for seed in SEEDS:
        images = pipeline(
            num_images=len(STRENGTHS),
            strength=STRENGTHS,
            generator=[torch.Generator().manual_seed(seed) for _ in STRENGTHS],
            num_inference_steps=recipe.synthesis.steps,
        ).images
        rows.append(
            [
                Figure(enlarged(image), f"strength {strength:g}")
                for image, strength in zip(images, STRENGTHS, strict=True)
            ]
        )
    return Section(
        title="Synthetic cells by strength",
        text=(
            "Each row starts from one seed; from left to right only the strength grows. "
            "Strength 0 is what the model takes for a good cell. These cells are not photographs."
        ),
        figures=rows,
    )


def enlarged(image: Image.Image) -> Image.Image:
    """A small image at the size of the others, its pixels left visible."""
    return image.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.NEAREST)


def defect_section(
    recipe: Recipe, root: Path, out: Path, category: str, runtime: Runtime
) -> Section:
    """Real defects and where the detector sees them: evenly spaced from the highest score down."""
    scores = read_scores(out / "evaluation" / category / "scores.csv", "anomalous")
    ranked = sorted(scores, key=lambda name: -scores[name])
    chosen = [ranked[place * (len(ranked) - 1) // (2 * SHOWN - 1)] for place in range(2 * SHOWN)]
    tests = list_test_images(recipe, root, category)
    by_name = {test.name: test.path for test in tests}
    model, threshold, _ = load_realnet(
        out / "realnet" / category, channels_last=runtime.detector_channels_last
    )
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    images = load_images([by_name[name] for name in chosen], ImageSpec.of(recipe, model.image_size))
    predictions = predict_images(model, images, accelerator)
    pictures, maps = [], []
    for name, image, score, anomaly_map in zip(
        chosen, images, predictions.scores, predictions.maps, strict=True
    ):
        verdict = "found" if score > threshold else "missed"
        pictures.append(Figure(to_picture(image), Path(name).stem))
        maps.append(Figure(overlay(image, anomaly_map), f"{score:.2f}, {verdict}"))
    return Section(
        title="Real defects",
        text=(
            "Twelve defective cells from the highest score to the lowest, evenly spaced, so the "
            "failures are among them. Below each, where the detector sees the defect."
        ),
        figures=[pictures[:SHOWN], maps[:SHOWN], pictures[SHOWN:], maps[SHOWN:]],
    )


def metrics_section(values: dict[str, float], scores: Path) -> Section:
    """The numbers, and how the scores spread."""
    return Section(
        title="How well it works",
        text=(
            "Weights and threshold were chosen on good cells kept back, with synthetic anomalies; "
            "the labels of the test cells served for these numbers only."
        ),
        table=[
            ("metric", "value"),
            ("image AUROC", f"{values['image_auroc']:.3f}"),
            ("average precision", f"{values['image_average_precision']:.3f}"),
            ("best F1", f"{values['image_f1_max']:.3f}"),
            ("F1 at the threshold", f"{values['image_f1_at_threshold']:.3f}"),
        ],
        histogram=histogram_of(scores, values["threshold"]),
    )


def histogram_of(scores: Path, threshold: float) -> Histogram:
    """The histogram of a file of scores."""
    normal, anomalous = (
        list(read_scores(scores, label).values()) for label in ("normal", "anomalous")
    )
    return score_histogram(normal, anomalous, threshold)


def time_section(times: dict[str, float]) -> Section:
    """What each step took."""
    rows = [(name, f"{seconds:.0f}") for name, seconds in times.items()]
    total = ("all", f"{sum(times.values()):.0f}")
    return Section(title="Time", table=[("step", "seconds"), *rows, total])


def command_section(recipe: Recipe, out: Path) -> Section:
    """The same steps, one by one."""
    return Section(
        title="Step by step",
        text="The demo ran these commands; run them by hand, or with a recipe of your own.",
        commands=demo_commands(recipe, out),
    )


def demo_commands(recipe: Recipe, out: Path) -> Sequence[str]:
    """The commands that repeat the demo in a folder of its own."""
    name = f"sia-gen {{}} --recipe {recipe.name}"
    seed = f" --seed {recipe.seed}"
    return [
        name.format("train-diffusion") + seed + f" --out {out}/diffusion",
        name.format("synthesize")
        + seed
        + f" --strength {recipe.synthesis.strength}"
        + f" --model {out}/diffusion --out {out}/corpus",
        f"sia-gen verify {out}/corpus",
        name.format("fit-realnet") + seed + f" --corpus {out}/corpus --out {out}/realnet",
        name.format("evaluate") + f" --model {out}/realnet --out {out}/evaluation",
    ]


def read_scores(path: Path, label: str) -> dict[str, float]:
    """The score of each image of a label, by file name."""
    with path.open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row["image"]: float(row["score"]) for row in rows if row["label"] == label}
