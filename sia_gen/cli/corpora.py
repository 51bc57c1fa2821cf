"""The commands that make and check corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sia_gen.cli.common import load_recipe, run_folder, runtime, say
from sia_gen.cli.options import (
    CategoryOption,
    DataOption,
    DeviceOption,
    OptionalRecipeOption,
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

ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="Folder of the diffusion models, one per category; 'runs' for several data sets.",
    ),
]
CorpusArgument = Annotated[str, typer.Argument(help="Folder or URL of the corpus.")]


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
    classifier: Annotated[
        Path | None, typer.Option("--classifier", help="Folder of the classifier that guides.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="Output folder, or a URL such as s3://...; runs/RECIPE/corpus otherwise."
        ),
    ] = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
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
    on = runtime(precision, device)
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


def calibrate(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    model: ModelOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder; runs/RECIPE/calibration if not.")
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Find the strengths at which samples are abnormal, and still of their object.

    It writes a recipe that has them, for 'synthesize --strength auto', and a page with the curves.

    Example: sia-gen calibrate --recipe elpv --category mono
    """
    from sia_gen.images.listing import data_root
    from sia_gen.inspection.calibrate import calibrate as measure

    chosen = load_recipe(recipe, {}, data)
    categories, root = chosen.choose_categories(category), data_root(chosen, data)
    folder = out or run_folder(chosen, "calibration")
    models = model or run_folder(chosen, "diffusion")
    found = measure(chosen, categories, root, models, folder, runtime(precision, device))
    for name, strength in found.items():
        say(f"{name}: {strength}")
    say(f"Next: sia-gen synthesize --recipe {folder}/recipe.yaml --strength auto")


def inspect(
    corpus: CorpusArgument,
    data: DataOption = None,
    category: CategoryOption = None,
    weights: WeightsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder; runs/RECIPE/inspection if not.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Make a page of a corpus: samples, strengths, distances, copies. Look before you train.

    Example: sia-gen inspect runs/elpv/corpus
    """
    from sia_gen.collection import load_corpus_recipe
    from sia_gen.corpus.manifest import read_manifest
    from sia_gen.inspection.inspect import inspect_corpus
    from sia_gen.locations import location
    from sia_gen.outputs import RECIPE

    place = location(corpus)
    read_manifest(place)
    folder = out or run_folder(load_corpus_recipe(place / RECIPE), "inspection")
    page = inspect_corpus(place, data, category, weights, folder, runtime("fp32", device))
    say(f"Open {page} in a browser.")


def compose(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", help="Folder or URL of the synthetic images.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="Triplets per category; the corpus's samples if not."),
    ] = None,
    form: Annotated[
        Literal["shards", "folder"],
        typer.Option("--format", help="WebDataset shards, or folders in the layout of MVTec AD."),
    ] = "shards",
    out: Annotated[
        str | None, typer.Option("--out", help="Output folder or URL; runs/RECIPE/triplets if not.")
    ] = None,
    seed: SeedOption = None,
) -> None:
    """Paste pieces of synthetic images into normal ones: image, mask and normal image.

    Any detector can train on them; anomalib reads '--format folder' with its Folder data module.
    Nothing is pasted if the corpus has twins: they are written as folders.

    Example: sia-gen compose --recipe elpv --category mono --format folder --out composed
    """
    from sia_gen.composition.compose import compose as make
    from sia_gen.images.listing import data_root
    from sia_gen.locations import location

    chosen = load_recipe(recipe, {"seed": seed}, data)
    categories, root = chosen.choose_categories(category), data_root(chosen, data)
    source = location(corpus or run_folder(chosen, "corpus"))
    target = location(out or run_folder(chosen, "triplets"))
    left_out = make(chosen, categories, root, source, target, form, images)
    if left_out:
        low, high = chosen.realnet.mask_area
        say(
            f"{left_out} twins are left out: their masks cover less than {low:.2%} or more than "
            f"{high:.0%} of the image."
        )
    say(f"The triplets are in {target}.")


def verify(
    corpus: CorpusArgument,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Delete bad shards, so that synthesize makes them again."),
    ] = False,
) -> None:
    """Re-read every shard of a corpus and hold it against the manifest.

    Example: sia-gen verify runs/elpv/corpus
    """
    from sia_gen.corpus.verify import verify as check
    from sia_gen.locations import location

    say(check(location(corpus), repair=repair))
