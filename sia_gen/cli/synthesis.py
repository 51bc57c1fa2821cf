"""The command that makes corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sia_gen.cli.common import run_folder, runtime, say
from sia_gen.cli.options import (
    CategoryOption,
    ChannelsLastOption,
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
    from sia_gen.config.recipe import CorpusRecipe, DatasetCategory
    from sia_gen.runtime.device import Runtime
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
        str | None,
        typer.Option(
            "--only",
            help="Make one sample again, by its key; with the options that its card names.",
        ),
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
    channels_last: ChannelsLastOption = None,
    resume: ResumeOption = True,
) -> None:
    """Make a corpus: shards of synthetic anomalies of a chosen strength.

    Example: sia-gen synthesize --recipe elpv --strength 0.1:0.2 --images 1000

    All of SIA, or a part of it: sia-gen synthesize --recipe sia-360k --shards 0:40

    With twins and masks: sia-gen synthesize --recipe elpv --twins --source image --start 0.5
    """
    from sia_gen.config.recipe import Collection, choose_categories, load_corpus_recipe

    require_apart({"only": only, "shards": shards, "category": category, "plan": plan})
    changes = {
        "seed": seed,
        "synthesis.strength": strength,
        "synthesis.images": images,
        "synthesis.steps": steps,
        "synthesis.guidance_scale": guidance_scale,
    }
    about = {"source": source, "start": start, "invert": invert or None, "region": region}
    places = {"data": data, "weights": weights}
    chosen = with_twins(load_corpus_recipe(recipe).override(changes), twins, about, places)
    several = isinstance(chosen, Collection)
    if classifier is None and not several:
        classifier = run_folder(chosen, "classifier") / "model"
    work = Work(
        chosen,
        choose_categories(chosen, category),
        model or (Path("runs") if several else run_folder(chosen, "diffusion")),
        classifier,
        runtime(precision, device, channels_last, compiled=compiled),
        data,
        weights,
    )
    if plan:
        print_plan(work, shards)
    elif only is not None:
        remake_sample(work, only, out)
    else:
        make_corpus(work, out, shards, resume=resume)


@dataclass(frozen=True)
class Work:
    """What is to be made, and what with.

    Attributes:
        recipe: Of the corpus.
        categories: Those to make.
        models: Folder of the pipelines.
        classifier: Folder of the classifier, if one was given or may be there.
        runtime: Device and precision.
        data: Folder of the photographs that twins start from.
        weights: File of the weights of the backbone that twins are compared with.
    """

    recipe: CorpusRecipe
    categories: Sequence[DatasetCategory]
    models: Path
    classifier: Path | None
    runtime: Runtime
    data: Path | None
    weights: Path | None

    def maker(self) -> TwinMaker | None:
        """Makes twins, if the recipe has any."""
        if self.recipe.synthesis.twins is None:
            return None
        from sia_gen.twins.maker import TwinMaker

        return TwinMaker(self.recipe, self.categories, self.data, self.weights)


def print_plan(work: Work, shards: str | None) -> None:
    """Prints what the corpus, or some of its shards, will take."""
    from sia_gen.corpus.estimate import estimate

    told = estimate(
        work.recipe,
        work.categories,
        work.models,
        work.runtime,
        classifier=work.classifier,
        shards=shards,
    )
    say(told)


def remake_sample(work: Work, key: str, out: str | None) -> None:
    """Makes one sample again, and prints its files."""
    from sia_gen.corpus.generate import remake
    from sia_gen.io.locations import location

    paths = remake(
        work.recipe,
        key,
        work.models,
        location(out or run_folder(work.recipe, "samples")),
        work.runtime,
        maker=work.maker(),
        classifier=work.classifier,
    )
    for path in paths:
        say(str(path))


def make_corpus(work: Work, out: str | None, shards: str | None, *, resume: bool) -> None:
    """Makes a corpus, or some of its shards, and prints where it is."""
    from sia_gen.corpus.generate import synthesize as generate
    from sia_gen.io.locations import location

    corpus, maker = location(out or run_folder(work.recipe, "corpus")), work.maker()
    generate(
        work.recipe,
        work.categories,
        work.models,
        corpus,
        work.runtime,
        maker=maker,
        classifier=work.classifier,
        shards=shards,
        resume=resume,
    )
    masks = maker.mask_summary() if maker is not None else None
    if masks is not None:
        say(f"{masks}.")
    say(f"The corpus is in {corpus}. Next: sia-gen verify {corpus}")


def require_apart(given: dict[str, Any]) -> None:
    """Refuses what says of one sample which others to make, or to plan.

    Raises:
        OptionError: If `--only` is among the options given, and not alone.
    """
    others = [name for name, value in given.items() if value and name != "only"]
    if given["only"] is not None and others:
        raise OptionError(
            problem=f"--only makes one sample, of which --{others[0]} says nothing.",
            fix=f"Leave --{others[0]} out, or --only.",
        )


def with_twins(
    recipe: CorpusRecipe, twins: bool, changes: dict[str, Any], places: dict[str, Path | None]
) -> CorpusRecipe:
    """The recipe with what the command line says of twins.

    Args:
        recipe: Of the corpus.
        twins: Whether twins are asked for.
        changes: Settings of twins, by option.
        places: Where what they need lies, by option.

    Raises:
        OptionError: If it says anything, and there are no twins.
    """
    given = [name for name, value in changes.items() if value is not None]
    if twins and recipe.synthesis.twins is None:
        recipe = recipe.override({"synthesis.twins": {}})
    if recipe.synthesis.twins is None:
        idle = given + [name for name, value in places.items() if value is not None]
        if idle:
            raise OptionError(
                problem=f"--{idle[0]} is about twins, and none are made.", fix="Add --twins."
            )
        return recipe
    content = recipe.synthesis.twins.model_dump() | {name: changes[name] for name in given}
    return recipe.override({"synthesis.twins": content})
