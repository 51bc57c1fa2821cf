"""Finds the useful strengths of categories, and writes them into a recipe.

OUT/
    recipe.yaml         the recipe, with the strengths of `--strength auto`
    calibration.json    what was measured
    index.html          the same, to look at
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sia_gen.collection import DatasetCategory
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.corpus.sources import Sources
from sia_gen.errors import OutputError
from sia_gen.evaluation.report import Chart, Figure, Level, Page, Section, write_page
from sia_gen.files import write_json
from sia_gen.inspection.calibration import STRENGTHS, StrengthCurve, measure_curve, useful_range
from sia_gen.inspection.normal import load_normal
from sia_gen.locks import EVERYTHING, settling
from sia_gen.outputs import hold_output, save_recipe
from sia_gen.progress import Progress
from sia_gen.recipe import Recipe
from sia_gen.runtime import Runtime
from sia_gen.strength import Strength
from sia_gen.strict_json import read_json

MEASURED = "calibration.json"
SPREAD = (0.1, 0.9)
# Sections of the recipe that what is measured depends on.
DECISIVE = ["realnet"]


def calibrate(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    models: Path,
    out: Path,
    runtime: Runtime,
    *,
    classifier: Path | None = None,
) -> dict[str, Strength]:
    """Measures the strengths of some categories; those measured earlier stay in the recipe.

    Args:
        recipe: Of the data set.
        categories: Those to calibrate.
        root: Folder of the normal images.
        models: Folder of the pipelines; see `sia_gen.corpus.sources`.
        out: Output folder, see above.
        runtime: Device and precision.
        classifier: Folder of the classifier, for a recipe with a guidance scale.

    Returns:
        The strengths of the categories, in the order given.

    Raises:
        ModelError: If a model or its classifier is missing, or has no useful strength.
    """
    accelerator = runtime.accelerator()
    sources = Sources(recipe, models, classifier)
    places = [DatasetCategory(recipe, category) for category in categories]
    size = sources.image_size(places)
    found: dict[str, Strength] = {}
    measured: dict[str, Any] = {}
    sections = []
    parts = dict.fromkeys(categories, EVERYTHING)
    # What is in the way has to be known before hours of measuring.
    earlier(out)
    sources.load(places[0])
    with (
        hold_output(out, recipe, DECISIVE, parts),
        Progress("calibrating", len(categories)) as progress,
    ):
        for place, category in zip(places, categories, strict=True):
            normal = load_normal(recipe, category, root, size)
            pipeline = sources.load(place)
            prepare_pipeline(pipeline, accelerator)
            curve, shown = measure_curve(pipeline, recipe, category, normal.reference, normal.apart)
            found[category] = useful_range(curve, f"'{category}' in {sources.folder(place)}")
            measured[category] = {"strength": str(found[category]), **curve.to_json()}
            sections.append(section(category, found[category], curve, shown))
            progress.advance()
            # The next one is loaded into the memory that this one leaves.
            del pipeline
            accelerator.free_memory()
        save(recipe, measured, sections, out)
    return found


def save(recipe: Recipe, measured: dict[str, Any], sections: Sequence[Section], out: Path) -> None:
    """Writes what was measured, beside what others measured of other categories."""
    with settling(out):
        known = earlier(out) | measured
        strengths = {category: entry["strength"] for category, entry in known.items()}
        strengths = recipe.synthesis.calibrated | strengths
        write_json(out / MEASURED, known)
        save_recipe(out, recipe.override({"synthesis.calibrated": strengths}), DECISIVE)
        summary = "Distance from the normal images at growing strength, and the range to use."
        write_page(out / "index.html", Page(f"Strengths of {recipe.title}", summary, sections))


def earlier(out: Path) -> dict[str, Any]:
    """What was measured before.

    Raises:
        OutputError: If it cannot be read.
    """
    path = out / MEASURED
    try:
        known = dict(read_json(path)) if path.exists() else {}
        if all(isinstance(entry["strength"], str) for entry in known.values()):
            return known
    except (ValueError, LookupError, TypeError):
        pass
    raise OutputError(problem=f"{path} is damaged.", fix="Delete it, then calibrate again.")


def section(
    category: str, strength: Strength, curve: StrengthCurve, shown: Sequence[Image.Image]
) -> Section:
    """The curve of a category, and a sample at each strength."""
    captions = [f"{value:g}" for value in STRENGTHS]
    return Section(
        title=f"{category}: {strength}",
        text=(
            f"Below {strength.low:g} most samples are no farther from the normal images than these "
            f"are from each other; above {strength.high:g} they are nearer to noise. The row is "
            "one sample, at growing strength."
        ),
        figures=[[Figure(image, caption) for image, caption in zip(shown, captions, strict=True)]],
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
