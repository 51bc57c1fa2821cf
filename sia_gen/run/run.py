"""Runs all steps with one command, ending in a detector, twins and a page.

OUT/
    recipe.yaml                 the settings of this run, by which it resumes
    diffusion/  strengths/  corpus/  realnet/  evaluation/
                                the output of each step
    times.json                  seconds that each step took
    synthetic.png               photographs, anomalies and masks, if the corpus has twins
    index.html                  the page
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import synthesize
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.found import survey
from sia_gen.images.listing import split_images
from sia_gen.inspection.calibrate import calibrate
from sia_gen.io.files import prepare_output, read_json, write_json, write_text
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.run.page import write_run_page
from sia_gen.run.plan import Plan, fit_into
from sia_gen.runtime.device import Runtime
from sia_gen.twins.maker import TwinMaker
from sia_gen.twins.strengths import twin_sampler

TIMES = "times.json"


def plan_run(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    runtime: Runtime,
    *,
    minutes: float | None,
) -> Plan:
    """Plans a run without writing anything.

    Args:
        minutes: Time for all steps, by which sizes and steps are chosen; None keeps the recipe's.

    Raises:
        UserError: If there are too few images or minutes, or the backbone lacks its weights.
    """
    found = {category: survey(recipe, root, category) for category in categories}
    # Missing weights would otherwise be noticed when the diffusion model is trained.
    RealNet.of(recipe.realnet)
    if minutes is not None:
        recipe = fit_into(recipe, categories, minutes, runtime)
    return Plan(recipe, found, minutes, _expected(recipe, root, categories))


def run(
    plan: Plan, categories: Sequence[str], root: Path, out: Path, runtime: Runtime, *, resume: bool
) -> dict[str, Any]:
    """Does what the plan says, or what an earlier run left to do, and writes the page.

    Returns the content of `metrics.json`, or nothing if there are no test images.
    """
    started, recipe = time.monotonic(), plan.recipe
    results: dict[str, Any] = {}
    steps = _steps(recipe, categories, root, out, runtime, results, resume=resume)
    prepare_output(out)
    if not resume and (out / TIMES).is_file():
        (out / TIMES).unlink()
    write_text(out / RECIPE, recipe.to_yaml())
    for number, (name, step) in enumerate(steps.items(), 1):
        print(f"[{number}/{len(steps)}] {name}", file=sys.stderr)
        with timed(name, out / TIMES):
            step()
    write_run_page(recipe, categories, root, out, read_times(out / TIMES), results, runtime)
    auroc = results.get("mean", {}).get("image_auroc")
    found = "all steps are done" if auroc is None else f"image AUROC {auroc:.3f} on real defects"
    print(f"{found}, after {time.monotonic() - started:.0f} s")
    return results


def _steps(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    out: Path,
    runtime: Runtime,
    results: dict[str, Any],
    *,
    resume: bool,
) -> dict[str, Callable[[], Any]]:
    """Returns the steps by name, in their order; the last one fills in the results."""
    places = [DatasetCategory(recipe, category) for category in categories]
    models, corpus, realnet = out / "diffusion", out / "corpus", out / "realnet"

    def make_corpus() -> None:
        chosen = recipe
        if recipe.synthesis.strength == "auto":
            chosen = Recipe.load(out / "strengths" / RECIPE)
        made = [DatasetCategory(chosen, category) for category in categories]
        maker = TwinMaker(chosen, made, root) if chosen.synthesis.twins else None
        synthesize(chosen, made, models, corpus, runtime, maker=maker, resume=resume)

    def measure_strengths() -> None:
        twins = None
        if recipe.synthesis.twins is not None:
            twins = partial(twin_sampler, TwinMaker(recipe, places, root))
        calibrate(recipe, categories, root, models, out / "strengths", runtime, twins=twins)

    steps: dict[str, Callable[[], Any]] = {
        "train-diffusion": lambda: train_diffusion(
            recipe, categories, root, models, runtime, resume=resume
        ),
        "calibrate": measure_strengths,
        "synthesize": make_corpus,
        "fit-realnet": lambda: fit_realnet(
            recipe, categories, root, corpus, realnet, runtime, resume=resume
        ),
        "evaluate": lambda: results.update(
            evaluate(recipe, categories, root, realnet, out / "evaluation", runtime)
        ),
    }
    unneeded = set() if recipe.synthesis.strength == "auto" else {"calibrate"}
    if not has_tests(recipe, categories, root):
        unneeded.add("evaluate")
    return {name: step for name, step in steps.items() if name not in unneeded}


def has_tests(recipe: Recipe, categories: Sequence[str], root: Path) -> bool:
    """Returns whether all categories have images to evaluate on, if only good ones."""
    found = [split_images(recipe, root, category) for category in categories]
    return all(images.test_normal for images in found)


def _expected(recipe: Recipe, root: Path, categories: Sequence[str]) -> dict[str, str]:
    """Says what each step will do."""
    diffusion, synthesis, realnet = recipe.diffusion, recipe.synthesis, recipe.realnet
    models = "" if len(categories) == 1 else f" for each of {len(categories)} categories"
    tile = recipe.data.tile
    of_tiles = "" if tile is None else f" for tiles of {tile.size}"
    expected = {
        "train-diffusion": f"network '{diffusion.preset}', {diffusion.image_size} pixels"
        f"{of_tiles}, {diffusion.max_steps} steps of {diffusion.batch_size} images{models}",
        "calibrate": f"strengths of {', '.join(synthesis.perturbation)}",
        "synthesize": f"{synthesis.images} "
        f"{'images with masks' if synthesis.twins else 'images'}{models}",
        "fit-realnet": f"{realnet.architecture}, {realnet.backbone}, "
        f"{realnet.image_size} pixels{of_tiles}, {realnet.max_steps} steps of "
        f"{realnet.batch_size} images{models}",
        "evaluate": "metrics, heat maps and a page",
    }
    steps = _steps(recipe, categories, root, Path(), Runtime(), {}, resume=True)
    return {name: expected[name] for name in steps}


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
