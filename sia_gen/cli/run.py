"""The commands to start with: the whole way in one, the demo, and the list of recipes."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from sia_gen.cli import options
from sia_gen.cli.common import (
    load_inputs,
    load_recipe,
    run_folder,
    saved_recipe,
    say,
    tile_changes,
)
from sia_gen.errors import OptionError


def run(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    category: options.Category = None,
    minutes: Annotated[
        float | None,
        Option(
            min=0,
            help="Time for all steps (default: 15 on a CPU and 60 on a GPU for a folder of images; "
            "as long as it takes for a recipe).",
        ),
    ] = None,
    plan: Annotated[
        bool, Option("--plan", help="Show what was found and what would be done, and stop.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Show the plan as JSON, and stop.")] = False,
    tile: options.Tile = None,
    scale: options.Scale = None,
    ignore: options.Ignore = None,
    weights: options.Weights = None,
    out: Annotated[Path | None, Option(help="Output folder (default: runs/RECIPE).")] = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    resume: options.Resume = True,
) -> None:
    """Go the whole way: train, synthesise, fit, evaluate, and write a page of results.

    Network, sizes and steps follow from the minutes and the measured speed of this machine. The
    plan says how long each step will take, and the page how long it took. Run the same command
    again to go on with an interrupted run.

    Example: sia-gen run --data photos --minutes 30
    """
    started = time.monotonic()
    if minutes is not None and not math.isfinite(minutes):
        raise OptionError(
            problem=f"--minutes {minutes} is not a number of minutes.", fix="Give one, such as 30."
        )
    changes = {
        "seed": seed,
        "realnet.weights": None if weights is None else str(weights),
        **tile_changes(tile, scale),
        "data.ignore": ignore,
    }
    folder = out or run_folder(load_recipe(recipe, {}, data), "")
    from sia_gen.config.outputs import RECIPE
    from sia_gen.run.plan import default_minutes
    from sia_gen.run.run import plan_run
    from sia_gen.run.run import run as go
    from sia_gen.runtime.device import Runtime
    from sia_gen.runtime.progress import SHORTER, notice

    runtime = Runtime(precision, device)
    begun = resume and (folder / RECIPE).is_file()
    if begun and out is not None:
        _require_same(folder, recipe, data)
    given = (saved_recipe(folder), {}) if begun else (recipe, changes)
    chosen, categories, root = load_inputs(given[0], data, category, given[1], steps={}, tell=False)
    if folder.resolve() == root.resolve():
        raise OptionError(
            problem=f"--out {folder} is the folder of the photographs.",
            fix="Choose another folder, which may lie in it.",
        )
    if begun and chosen.override(changes) != chosen:
        raise OptionError(
            problem=f"the run in {folder} has begun with another seed, or other weights or tiles.",
            fix="Leave the option out, choose another --out, or begin anew with --no-resume.",
        )
    if begun:
        minutes = None
    elif minutes is None and recipe is None:
        minutes = default_minutes(runtime)
    if not begun and sys.stderr.isatty():
        notice("Looks at the photographs and times this machine, for up to half a minute ...")
    planned = plan_run(
        chosen, categories, root, runtime, minutes=minutes, started=started, begun=begun
    )
    if as_json:
        echo(json.dumps(planned.as_json(), indent=2))
        return
    for line in planned.lines():
        say(line)
    if begun:
        say(f"going on with the run in {folder} as planned; --no-resume begins anew")
    if not plan:
        # The plan has said what takes less.
        SHORTER.set("")
        go(planned, categories, root, folder, runtime, resume=resume)
        say(f"Open {folder / 'index.html'} in a browser.")


def _require_same(folder: Path, recipe: str | None, data: Path | None) -> None:
    """Raises `OptionError` if the run in a folder is not that of the recipe or photographs."""
    from sia_gen.config.recipe import Recipe

    begun = Recipe.load(saved_recipe(folder)).name
    asked = begun if recipe is None and data is None else load_recipe(recipe, {}, data).name
    if asked != begun:
        raise OptionError(
            problem=f"{folder} has the run of '{begun}', not of '{asked}'.",
            fix="Give its --recipe or --data, another --out, or begin anew with --no-resume.",
        )


def demo(
    out: Annotated[Path, Option(help="Output folder.")] = Path("demo"),
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    resume: options.Resume = True,
) -> None:
    """Go the whole way with real solar cells, in minutes on a CPU: `run` with the recipe `demo`.

    Example: sia-gen demo
    """
    run(recipe="demo", out=out, seed=seed, precision=precision, device=device, resume=resume)


def recipes(
    name: Annotated[str | None, Argument(metavar="NAME", help="Recipe to print in full.")] = None,
) -> None:
    """List the recipes, or print one of them with all defaults.

    Example: sia-gen recipes elpv > mine.yaml
    """
    from sia_gen.config.recipe import all_categories, load_corpus_recipe
    from sia_gen.config.recipe_file import recipe_names

    if name is not None:
        echo(load_corpus_recipe(name).to_yaml(), nl=False)
        return
    for known in recipe_names():
        recipe = load_corpus_recipe(known)
        licenses = ", ".join(dict.fromkeys(member.license for member in recipe.members))
        echo(f"{known:12}  {recipe.title} ({len(all_categories(recipe))}), {licenses}")
