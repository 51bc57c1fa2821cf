"""The commands that make and check corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.cli.common import load_recipe, run_folder, runtime, say
from sia_gen.cli.options import (
    CategoryOption,
    DeviceOption,
    OutOption,
    PrecisionOption,
    RecipeOption,
    ResumeOption,
    SeedOption,
)


def synthesize(
    recipe: RecipeOption,
    strength: Annotated[
        str | None,
        typer.Option("--strength", help="0 is normal; one number, or a range such as 0.1:0.2."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Images per category.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=1000, help="Reverse steps per image.")
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--guidance-scale", min=0.0, help="Pull of the classifier to the category; needs one."
        ),
    ] = None,
    category: CategoryOption = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Folder of the diffusion models, one per category."),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option("--classifier", help="Folder of the classifier that guides.")
    ] = None,
    out: OutOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = True,
) -> None:
    """Make a corpus: shards of synthetic anomalies of a chosen strength.

    Example: sia-gen synthesize --recipe elpv --strength 0.1:0.2 --images 1000
    """
    from sia_gen.strength import Strength

    changes = {
        "seed": seed,
        "synthesis.strength": None if strength is None else str(Strength.parse(strength)),
        "synthesis.images": images,
        "synthesis.steps": steps,
        "synthesis.guidance_scale": guidance_scale,
    }
    chosen = load_recipe(recipe, changes)
    categories, folder = chosen.choose_categories(category), out or run_folder(chosen, "corpus")
    from sia_gen.corpus.generate import synthesize as generate

    models = model or run_folder(chosen, "diffusion")
    guide = classifier or run_folder(chosen, "classifier") / "model"
    on = runtime(precision, device)
    generate(chosen, categories, models, folder, on, classifier=guide, resume=resume)
    say(f"The corpus is in {folder}. Next: sia-gen verify {folder}")


def verify(
    corpus: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
) -> None:
    """Re-read every shard of a corpus and hold it against the manifest.

    Example: sia-gen verify runs/elpv/corpus
    """
    from sia_gen.corpus.verify import verify as check

    typer.echo(check(corpus))
