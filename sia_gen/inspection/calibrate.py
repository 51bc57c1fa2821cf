"""Finds the useful strengths of categories and writes them into a recipe.

OUT/
    recipe.yaml                 the recipe, with the strengths of `--strength auto`
    calibration.json            the measurements
    samples/<category>-<perturbation>.png
                                a sample at each strength, side by side
    index.html                  a page with these and the curves
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import release_memory
from PIL import Image

from sia_gen.config.outputs import claim_output, save_recipe
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.config.settings import Twins
from sia_gen.config.strength import Strength, StrengthText, require_perturbation
from sia_gen.corpus.generate import Pipelines
from sia_gen.corpus.sampling import prepare_pipeline
from sia_gen.errors import ImageError, OutputError
from sia_gen.images.opening import read_image
from sia_gen.inspection.distance import NormalBank, NormalImages, load_normal
from sia_gen.inspection.page import distance_chart
from sia_gen.inspection.strength_curve import (
    SAMPLES,
    Sampler,
    StrengthCurve,
    StrengthSamples,
    ladder,
    measure_curve,
    sampler_of,
    useful_range,
)
from sia_gen.io.files import atomic_path, read_json, write_json
from sia_gen.io.locks import EVERYTHING, settling
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.report.page import Figure, Level, Page, Section, write_page
from sia_gen.runtime.device import Runtime
from sia_gen.runtime.progress import Progress
from sia_gen.sdas.loading import HashCache
from sia_gen.sdas.pipeline import SDASPipeline

MEASURED = "calibration.json"
# Sections of the recipe on which the measurements depend.
DECISIVE = ["realnet"]
# Returns what makes twins of a category by a perturbation.
TwinSampler = Callable[[SDASPipeline, DatasetCategory, str], Sampler]


class Case(NamedTuple):
    """What is calibrated: a category and a perturbation."""

    category: str
    perturbation: str

    def __str__(self) -> str:
        return f"{self.category}, {self.perturbation}"


class Calibration(StrengthCurve):
    """The measurements of a case, the useful range, and everything that decides about them.

    `model` and `images` are hashes, and `twins` the settings of twins. The channels-last memory
    format changes only last bits.
    """

    strength: StrengthText
    model: str
    steps: int
    guidance_scale: float
    precision: str
    images: str
    twins: Twins | None = None


def calibrate(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    models: Path,
    out: Path,
    runtime: Runtime,
    *,
    twins: TwinSampler | None = None,
    classifier: Path | None = None,
) -> dict[Case, Strength]:
    """Measures the strengths of some categories by each perturbation of the recipe.

    What was measured before stays in the recipe, and is not measured again with the same model,
    images and precision.

    Args:
        root: Folder of the normal images.
        models: Folder of the pipelines; see `sia_gen.corpus.generate`.
        twins: Makes twins, for a recipe with `synthesis.twins`; see `sia_gen.twins.strengths`.
        classifier: Folder of the classifier, for a recipe with a guidance scale.

    Raises:
        ModelError: If a model or its classifier is missing, or has no useful strength.
    """
    common: dict[str, Any] = {
        "steps": recipe.synthesis.steps,
        "guidance_scale": recipe.synthesis.guidance_scale,
        "precision": runtime.accelerator().mixed_precision,
        "twins": recipe.synthesis.twins,
    }
    places = [DatasetCategory(recipe, category) for category in categories]
    pipelines, cache = Pipelines(recipe, places, models, classifier), HashCache()
    # Problems have to surface before hours of measuring.
    known, measured = _read_measured(out), dict[Case, Calibration]()
    cases = [Case(*case) for case in product(categories, recipe.synthesis.perturbation)]
    hashes = [pipelines.hash(place, cache) for place in places]
    rungs = len(ladder(twins=twins is not None))
    with (
        claim_output(out, recipe, DECISIVE, dict.fromkeys(categories, EVERYTHING), save=False),
        Progress("calibrating", len(cases) * rungs) as progress,
    ):
        for place, model in zip(places, hashes, strict=True):
            normal = load_normal(recipe, place.category, root, pipelines.image_size)
            images = hashlib.sha256(normal.small.tobytes()).hexdigest()
            for kind in recipe.synthesis.perturbation:
                before_case = progress.done
                case = Case(place.category, kind)
                origin = common | {"model": model, "images": images}
                before, row = known.get(case), _row_path(out, case)
                same = before is not None and origin.items() <= dict(before).items()
                if not (same and row.is_file()):
                    curve, shown = _measure(
                        place, kind, normal, pipelines, runtime, twins, progress
                    )
                    release_memory()
                    what = f"'{place.category}' in {pipelines.folder(place)}, perturbation '{kind}'"
                    strength = str(useful_range(curve, what))
                    _write_row(row, shown)
                    measured[case] = Calibration(strength=strength, **origin, **curve.model_dump())
                    known = _save(recipe, measured, out)
                progress.skip(rungs - (progress.done - before_case))
        if not measured:
            # The recipe and the page may have been lost since.
            _save(recipe, {}, out)
    return {case: Strength.parse(known[case].strength) for case in cases}


def _measure(
    place: DatasetCategory,
    kind: str,
    normal: NormalImages,
    pipelines: Pipelines,
    runtime: Runtime,
    twins: TwinSampler | None,
    progress: Progress,
) -> tuple[StrengthCurve, list[Image.Image]]:
    recipe, category = place
    pipeline, accelerator = pipelines.load(place), runtime.accelerator()
    prepare_pipeline(pipeline, accelerator, runtime.execution(accelerator.device, compiled=False))
    with explained_out_of_memory(
        f"{category}: out of memory, sampling {SAMPLES} images at a time.",
        "Use --precision bf16, or end other programs that take memory.",
    ):
        sampler = sampler_of(pipeline, recipe, category, kind)
        if twins is not None:
            sampler = twins(pipeline, place, kind)
        sampler = _counting(sampler, progress)
        bank = NormalBank.of(recipe, normal.reference, pipeline.device)
        return measure_curve(sampler, bank, recipe, kind, normal, twins=twins is not None)


def _counting(sample: Sampler, progress: Progress) -> Sampler:
    """Counts the samples of each strength as a step."""

    def counted(strength: float) -> StrengthSamples:
        made = sample(strength)
        progress.advance()
        return made

    return counted


def _save(recipe: Recipe, measured: dict[Case, Calibration], out: Path) -> dict[Case, Calibration]:
    """Writes measurements beside those that others made meanwhile, and returns all of them."""
    with settling(out):
        known = _read_measured(out) | measured
        strengths = {
            category: dict(by_kind) for category, by_kind in recipe.synthesis.calibrated.items()
        }
        contents: dict[str, dict[str, Any]] = {}
        for case, one in known.items():
            strengths.setdefault(case.category, {})[case.perturbation] = one.strength
            contents.setdefault(case.category, {})[case.perturbation] = one.model_dump()
        save_recipe(out, recipe.override({"synthesis.calibrated": strengths}), DECISIVE)
        summary = "Distance from the normal images at growing strength, and the range to use."
        sections = [_section(case, one, out) for case, one in known.items()]
        write_page(out / "index.html", Page(f"Strengths of {recipe.title}", summary, sections))
        # Written last, because what is in this file is not measured again.
        write_json(out / MEASURED, contents)
    return known


def _read_measured(out: Path) -> dict[Case, Calibration]:
    path = out / MEASURED
    try:
        content = dict(read_json(path)) if path.exists() else {}
        return {
            Case(category, require_perturbation(kind)): Calibration.parse(one)
            for category, by_kind in content.items()
            for kind, one in dict(by_kind).items()
        }
    except (ValueError, TypeError) as error:
        raise OutputError(
            problem=f"{path} is damaged, or of another version.",
            fix="Choose another folder with --out, or delete this one.",
        ) from error


def _row_path(out: Path, case: Case) -> Path:
    return out / "samples" / f"{case.category}-{case.perturbation}.png"


def _write_row(path: Path, images: Sequence[Image.Image]) -> None:
    row = Image.fromarray(np.hstack([np.asarray(image) for image in images]))
    with atomic_path(path) as temporary:
        row.save(temporary, format="PNG")


def _read_row(path: Path, strengths: Sequence[float]) -> list[Figure]:
    """Returns the pictures that `_write_row` wrote; none if they were lost or damaged since."""
    with contextlib.suppress(ImageError):
        row = read_image(path)
        side = row.height
        if row.width == len(strengths) * side:
            return [
                Figure(row.crop((place * side, 0, (place + 1) * side, side)), f"{strength:g}")
                for place, strength in enumerate(strengths)
            ]
    return []


def _section(case: Case, measured: Calibration, out: Path) -> Section:
    strength = Strength.parse(measured.strength)
    shown = _read_row(_row_path(out, case), measured.strengths)
    levels = [
        Level(
            measured.abnormal_from, "95 % of normal images, and of samples of strength 0, are below"
        ),
        Level(measured.object_until, "halfway to noise"),
    ]
    chosen = (strength.low, strength.high)
    bounds = (
        f"Below {strength.low:g} most samples are no farther from the normal images than these are "
        f"from each other; above {strength.high:g} they are nearer to noise."
    )
    if measured.masked is not None:
        bounds = (
            f"Below {strength.low:g} more than one mask in ten is empty; above {strength.high:g} "
            "anomalies become black and white."
        )
    return Section(
        title=f"{case}: {strength}",
        text=bounds + (" The row is one sample, at growing strength." if shown else ""),
        figures=[shown] if shown else [],
        charts=[distance_chart(measured.strengths, measured.samples, levels, chosen)],
    )
