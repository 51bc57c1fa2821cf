"""The commands to start with: the demo and the list of recipes."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from sia_gen.cli import options
from sia_gen.cli.common import load_recipe


def demo(
    out: Annotated[Path, Option(help="Output folder.")] = Path("demo"),
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    resume: options.Resume = True,
) -> None:
    """Run every step on real solar cells, in minutes on a CPU, and write a page of results.

    Example: sia-gen demo
    """
    from sia_gen.demo.run import run_demo
    from sia_gen.runtime.device import Runtime

    recipe = load_recipe("demo", {"seed": seed})
    run_demo(recipe, out, Runtime(precision, device), resume=resume)


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
