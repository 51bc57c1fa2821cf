"""Finds the useful strengths of categories, and writes them into a recipe.

OUT/
    recipe.yaml         the recipe, with the strengths of `--strength auto`
    calibration.json    what was measured
    samples/            a sample of each category at growing strength
    index.html          the same, to look at
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sia_gen.config.outputs import claim_output, save_recipe
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.config.strength import Strength
from sia_gen.corpus.pipelines import Pipelines
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.errors import OptionError, OutputError
from sia_gen.inspection.calibration import SAMPLES, StrengthCurve, measure_curve, useful_range
from sia_gen.inspection.normal import NormalImages, load_normal
from sia_gen.inspection.strength_page import row_path, write_row, write_strength_page
from sia_gen.io.files import write_json
from sia_gen.io.json import read_json
from sia_gen.io.locks import EVERYTHING, settling
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.out_of_memory import explained_out_of_memory
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import HashCache

MEASURED = "calibration.json"
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

    A category that was measured with the same model, images and precision is not measured again.

    Args:
        recipe: Of the data set.
        categories: Those to calibrate.
        root: Folder of the normal images.
        models: Folder of the pipelines; see `sia_gen.corpus.pipelines`.
        out: Output folder, see above.
        runtime: Device and precision.
        classifier: Folder of the classifier, for a recipe with a guidance scale.

    Returns:
        The strengths of the categories, in the order given.

    Raises:
        ModelError: If a model or its classifier is missing, or has no useful strength.
    """
    accelerator = runtime.accelerator()
    places = [DatasetCategory(recipe, category) for category in categories]
    pipelines, cache = Pipelines(recipe, places, models, classifier), HashCache()
    # What is in the way has to be known before hours of measuring.
    known, anything_new = earlier(out), False
    origins = {
        place.category: origin_of(place, pipelines, cache, accelerator.mixed_precision)
        for place in places
    }
    with (
        claim_output(out, recipe, DECISIVE, dict.fromkeys(categories, EVERYTHING), save=False),
        Progress("calibrating", len(categories)) as progress,
    ):
        for place in places:
            category, row = place.category, row_path(out, place.category)
            normal = load_normal(recipe, category, root, pipelines.image_size)
            origin = origins[category] | {"images": fingerprint(normal)}
            if not (origin.items() <= known.get(category, {}).items() and row.is_file()):
                curve, shown = measure(place, normal, pipelines, runtime)
                # The next model is loaded into the memory that this one leaves.
                accelerator.free_memory()
                strength = useful_range(curve, f"'{category}' in {pipelines.folder(place)}")
                write_row(row, shown)
                entry = {"strength": str(strength), **origin, **curve.to_json()}
                known, anything_new = save(recipe, {category: entry}, out), True
            progress.advance()
        if not anything_new:
            # What was measured earlier may have lost the recipe and the page.
            save(recipe, {}, out)
    return {category: Strength.parse(known[category]["strength"]) for category in categories}


def origin_of(
    place: DatasetCategory, pipelines: Pipelines, cache: HashCache, precision: str
) -> dict[str, Any]:
    """What decides the samples of a category, besides what decides about the output folder.

    The layout in memory does not count: it changes no more than last bits.
    """
    settings = place.recipe.synthesis
    return {
        "model": pipelines.hash(place, cache),
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "precision": precision,
    }


def fingerprint(normal: NormalImages) -> str:
    """Tells normal images from others."""
    return hashlib.sha256(normal.small.tobytes()).hexdigest()


def measure(
    place: DatasetCategory, normal: NormalImages, pipelines: Pipelines, runtime: Runtime
) -> tuple[StrengthCurve, list[Image.Image]]:
    """The curve of a category, and a sample at each strength."""
    recipe, category = place
    pipeline = pipelines.load(place)
    accelerator = runtime.accelerator()
    execution = runtime.execution(accelerator.device, compiled=False)
    prepare_pipeline(pipeline, accelerator, execution)
    with explained_out_of_memory(
        f"{category}: out of memory, sampling {SAMPLES} images at a time.",
        "Use --precision bf16, or end what else takes memory.",
    ):
        return measure_curve(pipeline, recipe, category, normal.reference, normal.apart)


def save(recipe: Recipe, measured: dict[str, Any], out: Path) -> dict[str, Any]:
    """Writes what was measured, beside what others measured of other categories.

    Returns:
        All of it.
    """
    with settling(out):
        known = earlier(out) | measured
        strengths = {category: entry["strength"] for category, entry in known.items()}
        strengths = recipe.synthesis.calibrated | strengths
        save_recipe(out, recipe.override({"synthesis.calibrated": strengths}), DECISIVE)
        write_strength_page(recipe.title, known, out)
        # What stands here is not measured again: it comes last.
        write_json(out / MEASURED, known)
    return known


def earlier(out: Path) -> dict[str, Any]:
    """What was measured before.

    Raises:
        OutputError: If it cannot be read.
    """
    path = out / MEASURED
    try:
        known = dict(read_json(path)) if path.exists() else {}
        for entry in known.values():
            Strength.parse(entry["strength"])
            StrengthCurve.from_json(entry)
    except (ValueError, LookupError, TypeError, AttributeError, OptionError) as error:
        raise OutputError(
            problem=f"{path} is damaged.", fix="Delete it, then calibrate again."
        ) from error
    return known
