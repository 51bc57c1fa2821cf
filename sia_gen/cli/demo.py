"""The commands to begin with: the demo and the list of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.cli.common import load_recipe, runtime
from sia_gen.cli.options import (
    DeviceOption,
    PrecisionOption,
    ResumeOption,
    SeedOption,
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("demo"),
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """The whole way on real images in minutes on a CPU, ending in numbers and a page.

    Example: sia-gen demo
    """
    from sia_gen.demo.run import run_demo

    run_demo(load_recipe("demo", {"seed": seed}), out, runtime(precision, device), resume=resume)


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full.")] = None,
) -> None:
    """List the recipes, or print one with every default.

    Example: sia-gen recipes elpv > mine.yaml
    """
    from sia_gen.config.recipe import all_categories, load_corpus_recipe
    from sia_gen.config.recipe_file import recipe_names

    if name is not None:
        typer.echo(load_corpus_recipe(name).to_yaml(), nl=False)
        return
    for known in recipe_names():
        recipe = load_corpus_recipe(known)
        licenses = ", ".join(dict.fromkeys(member.license for member in recipe.members))
        typer.echo(f"{known:12}  {recipe.title} ({len(all_categories(recipe))}), {licenses}")
