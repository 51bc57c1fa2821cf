"""The command that makes corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sia_gen.cli.common import run_folder, runtime, say
from sia_gen.cli.options import (
    CategoryOption,
    ClassifierOption,
    CompileOption,
    DataOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    RecipeOption,
    ResumeOption,
    SeedOption,
    WeightsOption,
)
from sia_gen.errors import OptionError

if TYPE_CHECKING:
    from sia_gen.collection import CorpusRecipe
    from sia_gen.twins.maker import TwinMaker


def synthesize(
    recipe: RecipeOption,
    strength: Annotated[
        str | None,
        typer.Option(
            "--strength",
            help="0 is normal; one number, a range such as 0.1:0.2, or auto (see calibrate).",
        ),
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
    twins: Annotated[
        bool,
        typer.Option("--twins", help="Beside each image its normal twin, and a mask."),
    ] = False,
    source: Annotated[
        Literal["noise", "image"] | None,
        typer.Option("--source", help="Twins start from noise, or from normal photographs."),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            "--start", help="How far photographs go back to noise, e.g. 0.3; at most 1, all of it."
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="They go back by DDIM inversion, not by noise.")
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", help="What of a twin changes: everywhere, perlin, box, foreground, a mask."
        ),
    ] = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    category: CategoryOption = None,
    shards: Annotated[
        str | None,
        typer.Option("--shards", help="A:B makes the shards A to B - 1 only, e.g. in a job array."),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Make one sample again, by its key.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what it takes; write nothing.")
    ] = False,
    model: ModelOption = None,
    classifier: ClassifierOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="Output folder, or a URL such as s3://...; runs/RECIPE/corpus otherwise."
        ),
    ] = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    compiled: CompileOption = None,
    resume: ResumeOption = True,
) -> None:
    """Make a corpus: shards of synthetic anomalies of a chosen strength.

    Example: sia-gen synthesize --recipe elpv --strength 0.1:0.2 --images 1000

    All of SIA, or a part of it: sia-gen synthesize --recipe sia-360k --shards 0:40

    With twins and masks: sia-gen synthesize --recipe elpv --twins --source image --start 0.5
    """
    from sia_gen.collection import Collection, choose_categories, load_corpus_recipe
    from sia_gen.locations import location

    changes = {
        "seed": seed,
        "synthesis.strength": strength,
        "synthesis.images": images,
        "synthesis.steps": steps,
        "synthesis.guidance_scale": guidance_scale,
    }
    about = {
        "source": source,
        "start": start,
        "invert": invert or None,
        "region": region,
    }
    chosen = with_twins(load_corpus_recipe(recipe).override(changes), twins, about)
    categories = choose_categories(chosen, category)
    several = isinstance(chosen, Collection)
    models = model or (Path("runs") if several else run_folder(chosen, "diffusion"))
    if classifier is None and not several:
        classifier = run_folder(chosen, "classifier") / "model"
    on = runtime(precision, device, compiled)
    if plan:
        from sia_gen.corpus.estimate import estimate

        say(estimate(chosen, categories, models, on, classifier=classifier, shards=shards))
        return
    maker: TwinMaker | None = None
    if chosen.synthesis.twins is not None:
        from sia_gen.twins.maker import TwinMaker

        maker = TwinMaker(chosen, categories, data, weights)
    if only is not None:
        from sia_gen.corpus.remake import remake

        folder = location(out or run_folder(chosen, "samples"))
        for path in remake(chosen, only, models, folder, on, maker=maker, classifier=classifier):
            say(str(path))
        return
    from sia_gen.corpus.generate import synthesize as generate

    corpus = location(out or run_folder(chosen, "corpus"))
    generate(
        chosen,
        categories,
        models,
        corpus,
        on,
        maker=maker,
        classifier=classifier,
        shards=shards,
        resume=resume,
    )
    if maker is not None and maker.tally.made:
        say(f"{maker.tally}.")
    say(f"The corpus is in {corpus}. Next: sia-gen verify {corpus}")


def with_twins(
    recipe: CorpusRecipe, twins: bool, changes: dict[str, str | float | bool | None]
) -> CorpusRecipe:
    """The recipe with what the command line says of twins.

    Raises:
        OptionError: If it says anything, and there are no twins.
    """
    given = [name for name, value in changes.items() if value is not None]
    if twins and recipe.synthesis.twins is None:
        recipe = recipe.override({"synthesis.twins": {}})
    if recipe.synthesis.twins is None:
        if given:
            raise OptionError(
                problem=f"--{given[0]} is about twins, and none are made.", fix="Add --twins."
            )
        return recipe
    content = recipe.synthesis.twins.model_dump() | {name: changes[name] for name in given}
    return recipe.override({"synthesis.twins": content})
