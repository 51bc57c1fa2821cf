"""The demo: all steps on real solar cells with one command, ending in numbers and a page.

OUT/
    diffusion/  corpus/  twins/  realnet/  evaluation/
                                                    the output of each step
    times.json                                      seconds that each step took
    twins.png                                       photographs, anomalies and masks
    index.html                                      the page
"""

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK
from sia_gen.corpus.verify import verify
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.listing import data_root, list_images, list_test_images
from sia_gen.images.loading import ImageSpec, load_image, load_images, to_picture
from sia_gen.io.files import atomic_path, read_json, write_json
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.inference import load_realnet, predict_images
from sia_gen.report.page import Figure, Page, Section, score_histogram, write_page
from sia_gen.report.pictures import contact_sheet, overlay
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.loading import load_pipeline
from sia_gen.twins.maker import TwinMaker

TIMES = "times.json"
# What the page shows.
STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
SHOWN = 6
SEEDS = (0, 1, 2)
PICTURE_SIZE = 192
# The twins that it shows: spots, scratches and stains in photographs, at about the strengths that
# `sia-gen calibrate --twins` finds for this model.
TWINS = {
    "synthesis.images": 40,
    "synthesis.perturbation": "pink,blobs,streaks",
    "synthesis.strength": "0.2:0.4",
    "synthesis.twins": {"source": "image", "region": "natural"},
}
SHOWN_TWINS = 12


def run_demo(recipe: Recipe, out: Path, runtime: Runtime, *, resume: bool = True) -> None:
    """Runs all steps, or those that an earlier run did not finish, and writes the page."""
    started = time.monotonic()
    root, categories = data_root(recipe, None), recipe.categories
    diffusion, corpus, realnet = out / "diffusion", out / "corpus", out / "realnet"
    results: dict[str, Any] = {}
    steps: dict[str, Callable[[], Any]] = {
        "train-diffusion": lambda: train_diffusion(
            recipe, categories, root, diffusion, runtime, resume=resume
        ),
        "synthesize": lambda: synthesize(
            recipe, all_categories(recipe), diffusion, corpus, runtime, resume=resume
        ),
        "verify": lambda: verify(corpus),
        "synthesize --twins": lambda: _make_twins(
            recipe, root, diffusion, out / "twins", runtime, resume=resume
        ),
        "fit-realnet": lambda: fit_realnet(
            recipe, categories, root, corpus, realnet, runtime, resume=resume
        ),
        "evaluate": lambda: results.update(
            evaluate(recipe, categories, root, realnet, out / "evaluation", runtime)
        ),
    }
    if not resume and (out / TIMES).is_file():
        (out / TIMES).unlink()
    for number, (name, step) in enumerate(steps.items(), 1):
        print(f"[{number}/{len(steps)}] {name}", file=sys.stderr)
        with timed(name, out / TIMES):
            step()
    _write_page(recipe, root, out, results["categories"], runtime)
    auroc = results["mean"]["image_auroc"]
    print(f"image AUROC {auroc:.3f} on real defects, after {time.monotonic() - started:.0f} s")
    print(f"Open {out / 'index.html'} in a browser.")


class Spent(BaseModel):
    """Seconds of all runs of a step until one of them finished, and whether one did."""

    seconds: float = 0.0
    done: bool = False


@contextmanager
def timed(name: str, path: Path) -> Iterator[None]:
    """Adds the time of a step to that of its earlier, interrupted runs."""
    started, done = time.monotonic(), False
    try:
        yield
        done = True
    finally:
        steps = _read_steps(path)
        earlier = steps.get(name, Spent())
        if path.parent.is_dir() and not earlier.done:
            seconds = earlier.seconds + time.monotonic() - started
            steps[name] = Spent(seconds=seconds, done=done)
            write_json(path, {step: spent.model_dump() for step, spent in steps.items()})


def read_times(path: Path) -> dict[str, float]:
    """Returns the seconds per step, as far as they are known."""
    return {name: spent.seconds for name, spent in _read_steps(path).items()}


def _read_steps(path: Path) -> dict[str, Spent]:
    try:
        return TypeAdapter(dict[str, Spent]).validate_python(read_json(path))
    # The times of a missing or damaged file count from zero.
    except (OSError, ValueError):
        return {}


def _write_page(
    recipe: Recipe, root: Path, out: Path, metrics: dict[str, Any], runtime: Runtime
) -> None:
    category = recipe.categories[0]
    values = metrics[category]
    scores: dict[str, dict[str, float]] = {"normal": {}, "anomalous": {}}
    with (out / "evaluation" / category / "scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scores[row["label"]][row["image"]] = float(row["score"])
    seconds = read_times(out / TIMES)
    seconds["all"] = sum(seconds.values())
    times = [(name, f"{spent:.0f}") for name, spent in seconds.items()]
    page = Page(
        title="sia-gen demo: finding defects in solar cells after seeing only good ones",
        summary=(
            f"Image AUROC {values['image_auroc']:.3f} on {values['anomalous_images']} real defects "
            f"and {values['normal_images']} good cells. No real defect was seen in training."
        ),
        sections=[
            _normal_section(recipe, root, category),
            _twins_section(recipe, root, out),
            _strength_section(recipe, out / "diffusion" / category),
            _defect_section(recipe, root, out, scores["anomalous"], runtime),
            _metrics_section(values, scores),
            Section(title="Time", table=[("step", "seconds"), *times]),
            _command_section(recipe, out),
        ],
    )
    write_page(out / "index.html", page)


def _normal_section(recipe: Recipe, root: Path, category: str) -> Section:
    paths = list_images(recipe, root, category).fit
    images = load_images(paths[:SHOWN], ImageSpec.of(recipe, PICTURE_SIZE))
    shown = zip(images, paths[:SHOWN], strict=True)
    return Section(
        title="Good cells",
        text=f"Six of the {len(paths)} photographs of good cells that the models learned from.",
        figures=[[Figure(to_picture(image), path.stem) for image, path in shown]],
    )


def _make_twins(
    recipe: Recipe, root: Path, models: Path, out: Path, runtime: Runtime, *, resume: bool
) -> None:
    recipe = recipe.override(TWINS)
    places = all_categories(recipe)
    maker = TwinMaker(recipe, places, root)
    synthesize(recipe, places, models, out, runtime, maker=maker, resume=resume)


def _twins_section(recipe: Recipe, root: Path, out: Path) -> Section:
    """Shows the first twins that have a mask, each below its photograph, and saves the picture."""
    category = recipe.categories[0]
    reader = SampleReader(out / "twins", recipe.dataset, category)
    paths = list_images(recipe, root, category).fit
    spec = ImageSpec.of(recipe, reader.form.image_size)
    columns: list[list[Image.Image]] = []
    captions: list[str] = []
    for number in range(reader.total):
        metadata, images = reader.read(number)
        if len(columns) < SHOWN_TWINS and images[MASK].getbbox():
            photograph = to_picture(load_image(paths[metadata["index"] % len(paths)], spec))
            columns.append([photograph, images[reader.form.picture], images[MASK]])
            captions.append(f"{metadata['perturbation']}, {metadata['strength']:.2f}")
    if columns:
        with atomic_path(out / "twins.png") as temporary:
            contact_sheet(list(zip(*columns, strict=True))).save(temporary, format="PNG")
    figures = []
    size = (PICTURE_SIZE, PICTURE_SIZE)
    for first in range(0, len(columns), SHOWN):
        shown = slice(first, first + SHOWN)
        for row, texts in zip(
            zip(*columns[shown], strict=True),
            (["photograph"] * SHOWN, captions[shown], ["mask"] * SHOWN),
            strict=True,
        ):
            enlarged = [image.resize(size, Image.Resampling.NEAREST) for image in row]
            figures.append([Figure(*pair) for pair in zip(enlarged, texts, strict=False)])
    return Section(
        title="Defects that never were",
        text=(
            "Photographs of good cells, what correlated noise makes of them on their way back from "
            "half noise, and the masks of what changed. Below each, the perturbation and its "
            "strength. The model has seen no defect."
        ),
        figures=figures,
    )


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
        size = (PICTURE_SIZE, PICTURE_SIZE)
        # Without smoothing, so that the pixels stay visible.
        enlarged = [image.resize(size, Image.Resampling.NEAREST) for image in images]
        shown = zip(enlarged, STRENGTHS, strict=True)
        rows.append([Figure(image, f"strength {strength:g}") for image, strength in shown])
    return Section(
        title="Synthetic cells by strength",
        text=(
            "The paper's white noise. Each row starts from one seed; from left to right only the "
            "strength grows. Strength 0 is what the model takes for a good cell. RealNet learns "
            "from pieces of such cells."
        ),
        figures=rows,
    )


def _defect_section(
    recipe: Recipe, root: Path, out: Path, scores: dict[str, float], runtime: Runtime
) -> Section:
    """Shows defects, evenly spaced from the highest score to the lowest, with their heat maps."""
    category = recipe.categories[0]
    ranked = sorted(scores, key=lambda name: -scores[name])
    chosen = [ranked[place * (len(ranked) - 1) // (2 * SHOWN - 1)] for place in range(2 * SHOWN)]
    by_name = {test.name: test.path for test in list_test_images(recipe, root, category)}
    folder, channels_last = out / "realnet" / category, runtime.detector_channels_last
    model, threshold, _ = load_realnet(folder, channels_last=channels_last)
    accelerator = runtime.accelerator()
    model.to(accelerator.device)
    images = load_images([by_name[name] for name in chosen], ImageSpec.of(recipe, model.image_size))
    found = predict_images(model, images, accelerator)
    pictures, maps = [], []
    for name, image, score, anomaly_map in zip(chosen, images, *found, strict=True):
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


def _metrics_section(values: dict[str, float], scores: dict[str, dict[str, float]]) -> Section:
    names = {
        "image AUROC": "image_auroc",
        "average precision": "image_average_precision",
        "best F1": "image_f1_max",
        "F1 at the threshold": "image_f1_at_threshold",
    }
    normal, anomalous = ([*scores[label].values()] for label in ("normal", "anomalous"))
    return Section(
        title="How well it works",
        text=(
            "Weights and threshold were chosen on good cells held out, with synthetic anomalies; "
            "the labels of the test cells served for these numbers only."
        ),
        table=[
            ("metric", "value"),
            *((title, f"{values[name]:.3f}") for title, name in names.items()),
        ],
        histogram=score_histogram(normal, anomalous, values["threshold"]),
    )


def _command_section(recipe: Recipe, out: Path) -> Section:
    chosen, seed = f"--recipe {recipe.name}", f"--seed {recipe.seed}"
    strength = f"--strength {recipe.synthesis.strength}"
    return Section(
        title="Step by step",
        text="The demo ran these commands; run them by hand, or with a recipe of your own.",
        commands=[
            f"sia-gen train-diffusion {chosen} {seed} --out {out}/diffusion",
            f"sia-gen synthesize {chosen} {seed} {strength} --model {out}/diffusion "
            f"--out {out}/corpus",
            f"sia-gen verify {out}/corpus",
            f"sia-gen synthesize {chosen} {seed} --twins --source image --region natural "
            f"--perturbation {TWINS['synthesis.perturbation']} --images "
            f"{TWINS['synthesis.images']} --strength {TWINS['synthesis.strength']} "
            f"--model {out}/diffusion --out {out}/twins",
            f"sia-gen fit-realnet {chosen} {seed} --corpus {out}/corpus --out {out}/realnet",
            f"sia-gen evaluate {chosen} --model {out}/realnet --out {out}/evaluation",
        ],
    )
