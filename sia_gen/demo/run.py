"""The demo: all steps on real solar cells with one command, ending in numbers and a page.

OUT/
    diffusion/  corpus/  realnet/  evaluation/      the output of each step
    times.json                                      seconds that each step took
    index.html                                      the page
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.verify import verify
from sia_gen.demo.page import write_demo_page
from sia_gen.diffusion.training import train_diffusion
from sia_gen.evaluation.evaluate import evaluate
from sia_gen.images.listing import data_root
from sia_gen.io.files import read_json, write_json
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime

TIMES = "times.json"


def run_demo(recipe: Recipe, out: Path, runtime: Runtime, *, resume: bool = True) -> None:
    """Runs all steps, or those that an earlier run did not finish, and writes the page.

    Args:
        out: Output folder, see above.
        resume: Whether to keep what an earlier run has finished.

    Raises:
        UserError: If the images or the weights are missing.
    """
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
    page = write_demo_page(recipe, root, out, read_times(out / TIMES), results, runtime)
    auroc = results["mean"]["image_auroc"]
    print(f"image AUROC {auroc:.3f} on real defects, after {time.monotonic() - started:.0f} s")
    print(f"Open {page} in a browser.")


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
