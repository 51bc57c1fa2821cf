"""Runs all steps with one command, ending in a detector, twins and a page.

OUT/
    recipe.yaml                 the settings of this run, by which it resumes
    diffusion/  strengths/  corpus/  realnet/  evaluation/
                                the output of each step
    times.json                  seconds that each step took, and that were planned
    synthetic.png               photographs, anomalies and masks, if the corpus has twins
    index.html                  the page
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from sia_gen.config.outputs import RECIPE
from sia_gen.config.recipe import DatasetCategory, Recipe
from sia_gen.corpus.generate import synthesize
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.damage import require_undamaged
from sia_gen.images.found import require_unseen, survey
from sia_gen.images.ground_truth import check_tests
from sia_gen.images.listing import list_images, list_test_images, split_images
from sia_gen.inspection.calibrate import calibrate
from sia_gen.io.files import prepare_output, write_text
from sia_gen.io.locks import working_on
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.realnet.model import RealNet
from sia_gen.run.costs import timed_costs
from sia_gen.run.page import write_run_page
from sia_gen.run.plan import Plan, fit_into
from sia_gen.run.speed import can_be_timed, detector_speed
from sia_gen.run.times import TIMES, keep_planned, read_times, timed
from sia_gen.runtime.device import Runtime
from sia_gen.twins.maker import TwinMaker
from sia_gen.twins.strengths import twin_sampler


def plan_run(
    recipe: Recipe,
    categories: Sequence[str],
    root: Path,
    runtime: Runtime,
    *,
    minutes: float | None,
    started: float | None = None,
    begun: bool = False,
) -> Plan:
    """Plans a run without writing anything.

    Args:
        minutes: Time for all steps, by which sizes and steps are chosen; None keeps the recipe's.
        started: When the minutes began, by the monotonic clock; now if None.
        begun: Whether it has been planned and timed before.

    Raises:
        UserError: If there are too few images or minutes, or the backbone lacks its weights.
    """
    started = time.monotonic() if started is None else started
    found = {category: survey(recipe, root, category) for category in categories}
    tested = has_tests(recipe, categories, root)
    pixels: dict[str, Any] = {"white": recipe.data.white, "large": recipe.data.tile is not None}
    for category in categories:
        images = split_images(recipe, root, category)
        require_unseen(images)
        # One that has begun goes on without photographs that were added since.
        if not begun and recipe.data.unreadable == "error":
            require_undamaged([*images.fit, *images.validation], category, **pixels)
        if tested:
            # The evaluation would otherwise notice them after all else.
            check_tests(list_test_images(recipe, root, category), category, **pixels)
    # Missing weights would otherwise be noticed when the diffusion model is trained.
    model = RealNet.of(recipe.realnet)
    if begun or (minutes is None and not can_be_timed(recipe)):
        return Plan(recipe, found, minutes, _expected(recipe, root, categories))
    photographs = list_images(recipe, root, categories[0]).fit
    costs_of = timed_costs(found, detector_speed(recipe, runtime, model, photographs), runtime)
    if minutes is not None:
        kind = runtime.accelerator().device.type
        recipe = fit_into(recipe, minutes, started, costs_of, kind)
    # Every process has timed itself; what the first one plans is for all.
    planned: list[Any] = [recipe, costs_of(recipe).steps(recipe)]
    broadcast_object_list(planned)
    recipe, seconds = planned
    expected = _expected(recipe, root, categories)
    return Plan(recipe, found, minutes, expected, {name: seconds[name] for name in expected})


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
    keep_planned(out / TIMES, plan.seconds)
    # The folder may lie among the photographs, where the lock tells it from theirs.
    with working_on(out, "run"):
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
    models, corpus, realnet = out / "diffusion", out / "corpus", out / "realnet"

    def make_corpus() -> None:
        chosen = recipe
        if recipe.synthesis.strength == "auto":
            chosen = Recipe.load(out / "strengths" / RECIPE)
        made = [DatasetCategory(chosen, category) for category in categories]
        maker = TwinMaker(chosen, made, root) if chosen.synthesis.twins else None
        synthesize(chosen, made, models, corpus, runtime, maker=maker, resume=resume)

    def measure_strengths() -> None:
        twins = twin_sampler(recipe, categories, root)
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
