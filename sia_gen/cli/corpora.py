"""The commands that look at corpora, check them, and compose from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sia_gen.cli.common import (
    choose_categories,
    load_recipe,
    next_command,
    run_folder,
    runtime,
    say,
)
from sia_gen.cli.options import (
    CategoryOption,
    ChannelsLastOption,
    ClassifierOption,
    DataOption,
    DeviceOption,
    ModelOption,
    OptionalRecipeOption,
    PrecisionOption,
    SeedOption,
    WeightsOption,
)

CorpusArgument = Annotated[str, typer.Argument(help="Folder or URL of the corpus.")]


def calibrate(
    recipe: OptionalRecipeOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    model: ModelOption = None,
    classifier: ClassifierOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder; runs/RECIPE/calibration if not.")
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    channels_last: ChannelsLastOption = None,
) -> None:
    """Find the strengths at which samples are abnormal, and still of their object.

    It writes a recipe that has them, for 'synthesize --strength auto', and a page with the curves.
    A category that was measured with the same model and images is not measured again.

    Example: sia-gen calibrate --recipe elpv --category mono
    """
    from sia_gen.config.outputs import RECIPE
    from sia_gen.images.listing import data_root
    from sia_gen.inspection.calibrate import calibrate as measure

    chosen = load_recipe(recipe, {}, data)
    categories, root = choose_categories(chosen, category), data_root(chosen, data)
    folder = out or run_folder(chosen, "calibration")
    found = measure(
        chosen,
        categories,
        root,
        model or run_folder(chosen, "diffusion"),
        folder,
        runtime(precision, device, channels_last),
        classifier=classifier or run_folder(chosen, "classifier") / "model",
    )
    for name, strength in found.items():
        say(f"{name}: {strength}")
    # The usual folder may hold a corpus of other strengths.
    places = {"model": model, "classifier": classifier, "out": run_folder(chosen, "calibrated")}
    then = next_command("synthesize --strength auto", str(folder / RECIPE), category, **places)
    say(f"Next: {then}")


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
    from sia_gen.config.outputs import RECIPE
    from sia_gen.config.recipe import load_corpus_recipe
    from sia_gen.corpus.manifest import read_manifest
    from sia_gen.inspection.inspect import inspect_corpus
    from sia_gen.io.locations import location

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
    from sia_gen.io.locations import location

    chosen = load_recipe(recipe, {"seed": seed}, data)
    categories, root = choose_categories(chosen, category), data_root(chosen, data)
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
    from sia_gen.io.locations import location

    say(check(location(corpus), repair=repair))
