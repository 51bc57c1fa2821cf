"""The page of a run: the photographs, what was made of them, and what the detector finds."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.cutting import tile_of
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK, NO_EDIT
from sia_gen.errors import ImageError
from sia_gen.evaluation.threshold_page import PAGE
from sia_gen.images.counted import Scope, load_scored
from sia_gen.images.listing import list_images, list_test_images
from sia_gen.images.loading import ImageSpec, Pixels, to_picture
from sia_gen.images.opening import upright_size
from sia_gen.images.store import load_some, open_images
from sia_gen.io.files import atomic_path
from sia_gen.realnet.inference import find_realnet, load_realnet
from sia_gen.realnet.many import predict_ahead
from sia_gen.report.page import Figure, Link, Page, Section, score_histogram, write_page
from sia_gen.report.pictures import contact_sheet, overlay, within_limit
from sia_gen.run.times import Spent
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import load_pipeline

# What the page shows.
STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
SHOWN, SHOWN_TWINS = 6, 12
SEEDS = (0, 1, 2)
PICTURE_SIZE = 192
SQUARE = (PICTURE_SIZE, PICTURE_SIZE)
MADE_SQUARE = {
    "stretch": ", stretched to squares as models take them",
    "pad": ", padded to squares as models take them",
    "crop": ", cut to squares as models take them",
}


def write_run_page(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    out: Path,
    times: Mapping[str, Spent],
    results: Mapping[str, Any],
    runtime: Runtime,
) -> None:
    """Writes the page of a run, with pictures of its first category.

    Args:
        times: How long each step took, and should have taken.
        results: Content of `metrics.json`; empty without test images.
    """
    category = categories[0]
    sections = [_normal_section(recipe, root, category)]
    if recipe.synthesis.twins is not None:
        sections.append(_twins_section(recipe, root, out, category))
    else:
        sections.append(_strength_section(recipe, out / "diffusion" / category))
    if results.get("mean", {}).get("image_auroc") is not None:
        scores = _read_scores(out, category)
        sections.append(_defect_section(recipe, root, out, category, scores["anomalous"], runtime))
        sections.append(_metrics_section(results["categories"], category, scores))
    else:
        sections.append(_unjudged_section(recipe, root, out, category, runtime))
    sections.append(_times_section(times))
    sections.append(_command_section(recipe, categories, root, out))
    page = Page(
        title=f"{recipe.title}: finding defects after seeing only good parts",
        summary=_summary(results, out),
        sections=sections,
    )
    write_page(out / "index.html", page)


def _summary(results: Mapping[str, Any], out: Path) -> str:
    """Says how many defects are found, and at the price of how many false alarms."""
    auroc = results.get("mean", {}).get("image_auroc")
    if auroc is None:
        return (
            "There are no images of defects to evaluate on, so how well it works is unknown: score "
            "some with the first command at the end of this page."
        )
    counts = dict.fromkeys(["normal", "anomalous", "called normal", "called anomalous"], 0)
    for category, values in results["categories"].items():
        for label, scores in _read_scores(out, category).items():
            counts[label] += len(scores)
            counts[f"called {label}"] += sum(one > values["threshold"] for one in scores.values())
    return (
        f"At its threshold the detector finds {counts['called anomalous']} of "
        f"{counts['anomalous']} real defects, and calls {counts['called normal']} of "
        f"{counts['normal']} good parts anomalous. Image AUROC {auroc:.3f}. No real defect was "
        "seen in training."
    )


def _read_scores(out: Path, category: str) -> dict[str, dict[str, float]]:
    """Returns the scores of the test images of a category by their label and name."""
    scores: dict[str, dict[str, float]] = {"normal": {}, "anomalous": {}}
    with (out / "evaluation" / category / "scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scores[row["label"]][row["image"]] = float(row["score"])
    return scores


def _normal_section(recipe: Recipe, root: Path, category: str) -> Section:
    paths = list_images(recipe, root, category).fit
    chosen, images = load_some(paths, ImageSpec.of(recipe, PICTURE_SIZE), SHOWN)
    shown = zip(images, chosen, strict=True)
    sizes = [upright_size(path) for path in chosen]
    squares = all(width == height for width, height in sizes)
    rule = recipe.data.non_square
    made = "" if squares or rule is None else MADE_SQUARE[rule]
    return Section(
        title="Good parts",
        text=f"Some of the {len(paths)} photographs of good parts that the models learned from"
        f"{made}.",
        figures=[[Figure(to_picture(image), path.stem) for image, path in shown]],
    )


def _twins_section(recipe: Recipe, root: Path, out: Path, category: str) -> Section:
    """Shows the first twins that have a mask, each below its photograph, and saves the picture."""
    reader = SampleReader(out / "corpus", recipe.dataset, category)
    paths = list_images(recipe, root, category).fit
    spec = ImageSpec.of(recipe, reader.form.image_size)
    from_photographs = (
        recipe.synthesis.twins is not None and recipe.synthesis.twins.source == "image"
    )
    starts = open_images([paths], spec)[0] if from_photographs else []
    columns: list[list[Image.Image]] = []
    captions: list[str] = []
    for number in range(reader.total):
        metadata, images = tile_of(reader.read(number), reader.form)
        if len(columns) < SHOWN_TWINS and images[MASK].getbbox():
            normal = images[f"normal.{reader.form.format}"]
            if from_photographs and reader.form.tile is None:
                normal = to_picture(starts[metadata["index"] % len(starts)])
            columns.append([normal, images[reader.form.picture], images[MASK]])
            captions.append(_caption(metadata))
    if columns:
        with atomic_path(out / "synthetic.png") as temporary:
            contact_sheet(list(zip(*columns, strict=True))).save(temporary, format="PNG")
    figures = []
    for first in range(0, len(columns), SHOWN):
        shown = slice(first, first + SHOWN)
        for row, texts in zip(
            zip(*columns[shown], strict=True),
            (["normal"] * SHOWN, captions[shown], ["mask"] * SHOWN),
            strict=True,
        ):
            enlarged = [image.resize(SQUARE, Image.Resampling.NEAREST) for image in row]
            figures.append([Figure(*pair) for pair in zip(enlarged, texts, strict=False)])
    return Section(
        title="Defects that never were",
        text=(
            "Good parts, what the model makes of them with perturbed noise, and the masks of what "
            "changed. Below each, the edit, the perturbation and its strength. The model has seen "
            "no defect."
        ),
        figures=figures,
    )


def _caption(metadata: Mapping[str, Any]) -> str:
    """What happened to a twin: `swap, blobs 0.25`, or less if there was no edit or no noise."""
    edit, strength = metadata["edit"], metadata["strength"]
    noise = f"{metadata['perturbation']} {strength:.2g}"
    return ", ".join([edit] * (edit != NO_EDIT) + [noise] * (strength > 0))


def _strength_section(recipe: Recipe, model: Path) -> Section:
    pipeline = load_pipeline(model, recipe)
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for seed in SEEDS:
        images: list[Image.Image] = pipeline(
            num_images=len(STRENGTHS),
            strength=STRENGTHS,
            generator=[torch.Generator().manual_seed(seed) for _ in STRENGTHS],
            num_inference_steps=recipe.synthesis.steps,
        ).images
        # Without smoothing, so that the pixels stay visible.
        enlarged = [image.resize(SQUARE, Image.Resampling.NEAREST) for image in images]
        shown = zip(enlarged, STRENGTHS, strict=True)
        rows.append([Figure(image, f"strength {strength:g}") for image, strength in shown])
    return Section(
        title="Synthetic parts by strength",
        text=(
            "The paper's white noise. Each row starts from one seed; from left to right only the "
            "strength grows. Strength 0 is what the model takes for a good part."
        ),
        figures=rows,
    )


def _defect_section(
    recipe: Recipe,
    root: Path,
    out: Path,
    category: str,
    scores: Mapping[str, float],
    runtime: Runtime,
) -> Section:
    """Shows defects, evenly spaced from the highest score to the lowest, with their heat maps."""
    ranked = sorted(scores, key=lambda name: -scores[name])
    count = min(2 * SHOWN, len(ranked))
    chosen = [ranked[place * (len(ranked) - 1) // max(1, count - 1)] for place in range(count)]
    by_name = {test.name: test.path for test in list_test_images(recipe, root, category)}
    figures = _heat_maps(recipe, out, category, [by_name[name] for name in chosen], runtime)
    return Section(
        title="Real defects",
        text=(
            "Defects from the highest score to the lowest, evenly spaced, so the failures are "
            "among them. Below each, where the detector sees the defect."
        ),
        figures=figures,
    )


def _unjudged_section(
    recipe: Recipe, root: Path, out: Path, category: str, runtime: Runtime
) -> Section:
    """Shows what the detector says of good parts that it has not learned."""
    paths = list_images(recipe, root, category).validation[:SHOWN]
    return Section(
        title="Good parts that were held back",
        text="What the detector says of good parts that it has not learned: most should be normal.",
        figures=_heat_maps(recipe, out, category, paths, runtime),
    )


def _heat_maps(
    recipe: Recipe, out: Path, category: str, paths: Sequence[Path], runtime: Runtime
) -> list[list[Figure]]:
    """Returns rows of photographs, and below each row their heat maps and verdicts."""
    folder = find_realnet(out / "realnet", category)
    model, threshold, _ = load_realnet(folder, channels_last=runtime.detector_channels_last)
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    spec = ImageSpec.of(recipe, model.image_size)

    def load(path: Path) -> tuple[Pixels, Scope, Pixels]:
        image, scope = load_scored(path, spec)
        return image, scope, scope.area.cut(image)

    pictures, maps = [], []
    scored = predict_ahead(model, paths, load, accelerator, spec.tile)
    for path, whole, score, full_map in scored:
        if isinstance(whole, ImageError):
            raise whole
        image, anomaly_map = within_limit(whole, full_map)
        verdict = "anomalous" if score > threshold else "normal"
        pictures.append(Figure(to_picture(image), path.stem))
        maps.append(Figure(overlay(image, anomaly_map), f"{score:.2f}, {verdict}"))
    rows = []
    for first in range(0, len(pictures), SHOWN):
        rows += [pictures[first : first + SHOWN], maps[first : first + SHOWN]]
    return rows


def _metrics_section(
    results: Mapping[str, Mapping[str, float]],
    category: str,
    scores: Mapping[str, Mapping[str, float]],
) -> Section:
    names = {
        "image AUROC": "image_auroc",
        "average precision": "image_average_precision",
        "best F1": "image_f1_max",
        "F1 at the threshold": "image_f1_at_threshold",
        "pixel AUROC": "pixel_auroc",
        "pixel average precision": "pixel_average_precision",
        "PRO": "pixel_pro",
    }
    rows = [
        (title, *(f"{values[name]:.3f}" for values in results.values()))
        for title, name in names.items()
        if all(values.get(name) is not None for values in results.values())
    ]
    normal, anomalous = ([*scores[label].values()] for label in ("normal", "anomalous"))
    return Section(
        title="How well it works",
        text=(
            "Weights and threshold were chosen on good parts held out; the labels of the test "
            "images served for these numbers only. With an image AUROC of 1, every defect scores "
            "higher than every good part; 0.5 is chance."
        ),
        table=[("metric", *results), *rows],
        histogram=score_histogram(normal, anomalous, results[category]["threshold"]),
        links=[
            Link(
                f"Every image of {name}, and the threshold as a slider", f"evaluation/{name}/{PAGE}"
            )
            for name in results
        ],
    )


def _times_section(times: Mapping[str, Spent]) -> Section:
    took = sum(spent.seconds for spent in times.values())
    planned = sum(spent.planned or 0.0 for spent in times.values())
    every = {**times, "all": Spent(seconds=took, planned=planned or None)}
    rows = [
        (name, f"{spent.seconds:.0f}", "" if spent.planned is None else f"{spent.planned:.0f}")
        for name, spent in every.items()
    ]
    return Section(title="Time", table=[("step", "seconds", "planned"), *rows])


def _command_section(recipe: Recipe, categories: Sequence[str], root: Path, out: Path) -> Section:
    chosen = f"--recipe {shlex.quote(str(out / RECIPE))}"
    if categories != recipe.categories:
        chosen += "".join(f" --category {shlex.quote(category)}" for category in categories)
    if recipe.data.package is None:
        chosen += f" --data {shlex.quote(str(root))}"
    folder = shlex.quote(str(out))
    model = f"{folder}/realnet/{shlex.quote(categories[0])}"
    return Section(
        title="Go on",
        text="Score photographs (--false-alarm-rate 0.01 aims at 1 % false alarms), export or "
        "serve the detector, or repeat a step otherwise.",
        commands=[
            f"sia-gen predict {model} photos",
            f"sia-gen export {model} --out {shlex.quote(categories[0])}.onnx --with-preprocessing",
            f"sia-gen serve {model}",
            f"sia-gen fit-realnet {chosen} --corpus {folder}/corpus --out {folder}/realnet-2",
        ],
    )
